"""In-context colouring: pairs of one colour map, what is hidden, and the loss."""

import math

import pytest
import torch

from segic_d2.modeling.seggpt import training
from segic_d2.modeling.seggpt.training import (
    ColourLosses,
    hidden_blocks,
    lower_half,
    of_patches,
)
from tests.modeling.seggpt.parts import episode, tiny_model


def pair(seed=0, entities=1, **options):
    model = tiny_model()
    x = episode(model, seed, entities, absent=options.pop("absent", False))
    x |= options.pop("more", {})
    found = ColourLosses(**options).pair(x, model.pixels, 8)
    return x, (found[0], model.pixels.shown(found[1]).round(), *found[2:])


def colours_in(square):
    return {tuple(c) for c in square.flatten(1).T.tolist()} - {(0.0, 0.0, 0.0)}


@pytest.mark.parametrize("seed", range(6))
def test_prompt_and_target_have_one_colour_map(seed):
    x, (pictures, colours, valid, masked) = pair(seed, entities=3, mix=1.0)
    above, below = colours[:, :32], colours[:, 32:]
    assert colours_in(above) == colours_in(below) and 1 <= len(colours_in(below)) <= 3
    for colour in colours_in(below):
        mask = (below == torch.tensor(colour)[:, None, None]).all(0)
        assert any(torch.equal(mask, own) for own in x["masks"])
    assert pictures.shape == (3, 64, 32) and valid.all() and masked.sum() == 16


def test_one_reference_is_the_prompt_and_only_what_it_shows_is_coloured():
    for seed in range(6):
        x, (_, colours, _, _) = pair(seed, entities=3, mix=0.0)
        assert len(colours_in(colours)) == 1
        shown = (colours[:, 32:] > 0).any(0)
        row = next(i for i, own in enumerate(x["masks"]) if torch.equal(own, shown))
        mask = x["references"][row]["masks"][0] > 0
        assert torch.equal((colours[:, :32] > 0).any(0), mask)


def test_white_is_one_entity_on_black():
    _, (_, colours, _, _) = pair(1, entities=3, white=1.0, mix=1.0)
    assert colours_in(colours) == {(255.0, 255.0, 255.0)}


def test_an_absent_entity_leaves_the_target_black():
    _, (_, colours, _, _) = pair(absent=True)
    assert colours[:, :32].any() and not colours[:, 32:].any()


def test_colours_depend_on_the_seed_alone_and_are_apart():
    first, again, other = (pair(s, entities=3, mix=1.0)[1][1] for s in (2, 2, 3))
    assert torch.equal(first, again) and colours_in(first) != colours_in(other)
    found = torch.tensor([*colours_in(first), (0.0, 0.0, 0.0)])
    far = (found[:, None] - found).abs().mean(-1) + 255 * torch.eye(len(found))
    assert far.min() >= 32


def test_ignored_pixels_and_padding_do_not_count():
    ignore = torch.zeros(32, 32, dtype=torch.bool)
    ignore[3:5] = True
    _, (_, _, valid, _) = pair(more={"ignore": ignore})
    assert torch.equal(~valid[0, 32:], ignore) and valid[0, :32].all()
    x, _ = pair()
    small = {"image": x["image"][:, :20], "masks": x["masks"][:, :20]}
    _, (_, colours, valid, _) = pair(more=small)
    assert valid[0, 32:52].all() and not valid[0, 52:].any() and not colours[:, 52:].any()


@pytest.mark.parametrize("size, count", [((56, 28), 784), ((8, 4), 16), ((8, 4), 0), ((8, 4), 32)])
def test_exactly_so_many_patches_are_hidden_in_blocks(size, count):
    masks = [hidden_blocks(*size, count, torch.Generator().manual_seed(s)) for s in range(4)]
    assert all(m.shape == size and m.sum() == count for m in masks)
    if count == 784:
        alike = (masks[0][1:] == masks[0][:-1]).float().mean()
        assert alike > 0.8 and not torch.equal(masks[0], masks[1])  # not single patches


def test_the_lower_half_is_hidden_as_often_as_asked():
    halves = [torch.equal(pair(s, half=0.5)[1][3], lower_half(8, 4)) for s in range(40)]
    assert 10 <= sum(halves) <= 30
    assert torch.equal(pair(0, half=1.0)[1][3], lower_half(8, 4))


def slow_loss(painted, colours, masked, valid):
    total, number = 0.0, 0
    for b, c, y, x in torch.cartesian_prod(*map(torch.arange, painted.shape)).tolist():
        if masked[b, y // 8, x // 8] and valid[b, 0, y, x]:
            d = abs(float(painted[b, c, y, x] - colours[b, c, y, x]))
            total += d * d / 0.02 if d < 0.01 else d - 0.005
            number += 1
    return total / number


def drawn():
    g = torch.Generator().manual_seed(0)
    painted, colours = torch.randn(2, 2, 3, 16, 8, generator=g)
    painted[0, :, 3] = colours[0, :, 3] + 0.004
    masked, valid = torch.ones(2, 2, 1).bool(), torch.rand(2, 1, 16, 8, generator=g) > 0.3
    masked[0, 1] = False
    return painted, colours, masked, valid


def test_loss_is_the_mean_over_hidden_pixels_that_count():
    model, (painted, colours, masked, valid) = tiny_model(), drawn()
    found = ColourLosses().loss(painted, colours, masked, valid, model.pixels)
    assert found.item() == pytest.approx(slow_loss(painted, colours, masked, valid), rel=1e-5)


@pytest.mark.parametrize("painter", [False, True])
def test_nothing_that_counts_is_a_loss_of_zero_with_gradients(painter):
    model, (painted, colours, masked, valid) = tiny_model(), drawn()
    painted.requires_grad_()
    criterion = ColourLosses(painter=painter)
    loss = criterion.loss(painted, colours, masked, valid & False, model.pixels)
    loss.backward()
    assert loss == 0 and painted.grad.eq(0).all()


def test_what_is_coloured_counts_more_where_asked():
    model, (painted, colours, masked, valid) = tiny_model(), drawn()
    colours = model.pixels.normalised(
        (colours > 0.5).any(1, keepdim=True) * torch.full((3, 1, 1), 90.0)
    )
    lit = model.pixels.shown(colours)[:, :1] > 1
    args = painted, colours, masked
    both = ColourLosses(coloured=3.0).loss(*args, valid, model.pixels)
    black, own = (ColourLosses().loss(*args, valid & m, model.pixels) for m in (~lit, lit))
    counts = [(of_patches(masked, colours) & valid & m).sum() for m in (~lit, lit)]
    expected = (black * counts[0] + 3 * own * counts[1]) / (counts[0] + 3 * counts[1])
    torch.testing.assert_close(both, expected)


def test_patches_cover_their_pixels():
    covered = of_patches(lower_half(4, 2)[None], torch.zeros(1, 3, 32, 16))
    assert covered.shape == (1, 1, 32, 16)
    assert covered[..., 16:, :].all() and not covered[..., :16, :].any()


@pytest.mark.parametrize("task", ["semantic", "instance"])
@pytest.mark.parametrize("told", [True, False])
def test_a_step_reaches_every_parameter(task, told):
    model = tiny_model(TYPE_TOKENS=told, TRAIN__HALF_PROB=0.0).train()
    losses = model([episode(model, s, 2, task) for s in range(8)])  # dark ones do not count
    assert list(losses) == ["loss_colour"] and math.isfinite(losses["loss_colour"])
    losses["loss_colour"].backward()
    idle = {n for n, p in model.named_parameters() if not p.grad.any()}
    if told:
        assert idle == {f"net.type_token_{'ins' if task == 'semantic' else 'cls'}"}
    else:
        assert not idle


def context(model):
    x = episode(model, 5, 2)
    return model.encode_context(x["references"], {1: "one", 2: None})


def test_tuning_reaches_pictures_and_colours_and_lowers_its_loss():
    model = tiny_model()
    model.requires_grad_(False)
    tuned = model.tunable(context(model))
    for values in tuned.tensors.values():
        values.requires_grad_()
    batch = [episode(model, s, 2) for s in (1, 2)]
    optimizer, losses = torch.optim.Adam(tuned.tensors.values(), 0.2), []
    for _ in range(15):
        loss = model.context_losses(batch, tuned)["loss_colour"]
        optimizer.zero_grad()
        loss.backward()
        assert all(v.grad.any() for v in tuned.tensors.values())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] * 0.97


def test_tuning_looks_at_the_targets_own_entities():
    model, batch = tiny_model(), []
    known = context(model)
    for ids in ((1, 2), (1, 9)):
        x = episode(model, 1, 2)
        x["entities"] = [{"id": i, "name": None} for i in ids]
        batch.append(x)
    with torch.no_grad():
        both, one = (model.context_losses([x], known)["loss_colour"] for x in batch)
        first = model.context_losses(batch[:1], known.take([0]))["loss_colour"]
        assert one == first != both
        batch[1]["entities"] = [{"id": 8, "name": None}, {"id": 9, "name": None}]
        with pytest.raises(ValueError, match=r"no target has one of the context's entities, \[1, "):
            model.context_losses(batch[1:], known)


def test_a_shot_that_is_left_out_leaves_the_others():
    """As tuning does with a target that is itself a reference."""
    model = tiny_model()
    known = context(model)
    both = type(known).join_shots([known, context(tiny_model())])
    tuned = model.tunable(both)
    kept = both.shots.clone()
    kept[:, 1] = False
    with torch.no_grad():
        batch = [episode(model, 1, 2)]
        found = model.context_losses(batch, tuned.take([0, 1], kept))["loss_colour"]
        expected = model.context_losses(batch, model.tunable(known))["loss_colour"]
        assert torch.equal(found, expected)
        kept[0] = False  # nothing is left of the first
        rest = model.context_losses(batch, tuned.take([0, 1], kept))["loss_colour"]
        assert rest == model.context_losses(batch, model.tunable(known.take([1])))["loss_colour"]


def test_what_is_stitched_is_cut_and_keeps_every_colour(monkeypatch):
    cut = [pair(seed, entities=3, mix=1.0)[1] for seed in range(8)]
    monkeypatch.setattr(training, "CUT", 1.0)
    whole = [pair(seed, entities=3, mix=1.0)[1] for seed in range(8)]
    for (pictures, colours, *_), (all_pictures, all_colours, *_) in zip(cut, whole, strict=True):
        assert torch.equal(pictures[:, 32:], all_pictures[:, 32:])
        assert torch.equal(colours[:, 32:], all_colours[:, 32:])
        assert colours_in(colours[:, :32]) == colours_in(all_colours[:, :32])
    other = [not torch.equal(a[0][:, :32], b[0][:, :32]) for a, b in zip(cut, whole, strict=True)]
    assert sum(other) > 2
