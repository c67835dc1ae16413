"""The region head's parts together, on the tiny model."""

from dataclasses import replace

import pytest
import torch

from segic_d2.modeling.layers.similarity import Similarity
from segic_d2.modeling.segic.regions import matcher as module
from segic_d2.modeling.segic.regions.canvas import on_canvas
from segic_d2.modeling.segic.regions.matching import known, match
from segic_d2.structures.context import CELLS, Context
from tests.modeling.segic.parts import build
from tests.modeling.segic.regions.test_linkage import flooded
from tests.tiny import blob, tiny_episode

HEAD = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead"
R = "MODEL.SEGIC.REGIONS."
G = torch.Generator().manual_seed(0)


def region_model(*opts, **options):
    own = *HEAD, f"{R}CELLS", 18, f"{R}CUT", 0.9, "INPUT.MULTIPLE", 14
    return build(*own, *opts, **options)


def context_of(model, episode):
    names = {e["id"]: e["name"] for e in episode["entities"]}
    return model.encode_context(episode["references"], names)


def test_a_context_of_cells_is_small_and_saved_whole(tmp_path):
    model, episode = region_model(), tiny_episode(0, 2, shots=2)
    context = context_of(model, episode)
    shapes = {name: tuple(x.shape) for name, x in context.tensors.items()}
    assert context.kind == CELLS and shapes == {
        "prototypes": (2, 2, 24),
        "unit_prototypes": (2, 2, 24),
        "cell_prototypes": (2, 2, 2, 24),
        "cells": (2, 2, 18, 24),
        "cell_counts": (2, 2, 18),
        "cell_shares": (2, 2, 18),
        "cell_areas": (2, 2, 1),
    }
    assert context.tensors["cells"].dtype == torch.float16
    context.save(tmp_path / "c.safetensors")
    again = Context.load(tmp_path / "c.safetensors")
    features = model.encode_images([episode])
    one, other = (model.segment(features, c)[0] for c in (context, again))
    assert torch.equal(one.logits, other.logits) and torch.equal(one.scores, other.scores)


def test_contexts_of_another_kind_or_head_are_refused():
    model, episode = region_model(), tiny_episode(0, 2)
    features, context = model.encode_images([episode]), context_of(model, episode)
    plain = build("INPUT.MULTIPLE", 14)
    with pytest.raises(ValueError, match="takes contexts of 'cells', not of 'prototypes': make it"):
        model.segment(features, context_of(plain, episode))
    with pytest.raises(ValueError, match="takes contexts of 'prototypes', not of 'cells'"):
        plain.segment(features, context)
    for change in ((f"{R}CELLS", 8), ("INPUT.REFERENCE_WHOLE", True)):
        with pytest.raises(ValueError, match="made by another model: (regions|whole)"):
            region_model(*change).segment(features, context)


def test_shots_and_entities_in_one_pass_are_each_alone():
    """Where entities do not compete; the second entity has one shot less."""
    model, episode = region_model(f"{R}COMPETE", False), tiny_episode(3, 2, shots=2)
    episode["references"].pop()
    context, features = context_of(model, episode), model.encode_images([episode])
    (both,) = model.segment(features, context)
    assert context.shots.tolist() == [[True, True], [True, False]]
    for row in (0, 1):
        (one,) = model.segment(features, context.take([row]))
        torch.testing.assert_close(one.logits[0], both.logits[row])
        torch.testing.assert_close(one.scores[0], both.scores[row])
    assert known(context).entity.tolist() == [0, 0, 1]


@pytest.mark.parametrize("calibration", [(), (-2.0, 3.0, 1.5)])
def test_a_score_is_the_mean_of_what_each_shot_says_by_itself(calibration):
    """No more shots make a thing less likely than each of them does."""
    options = f"{R}DECODER", 0.2, f"{R}SMALL", 0.0, f"{R}CALIBRATION", calibration
    model, episode = region_model(*options), tiny_episode(4, 1, shots=3)
    context, features = context_of(model, episode), model.encode_images([episode])
    matcher, decoded = model.sem_seg_head.matcher, [torch.randn(1, 32, 32, generator=G)]
    ((_, scores),) = matcher(features, [context], decoded)
    alone = []
    for shot in range(3):
        tensors = {k: v[:, shot : shot + 1] for k, v in context.tensors.items()}
        one = replace(context, tensors=tensors, shots=context.shots[:, :1])
        alone.append(matcher(features, [one], decoded)[0][1])
    assert len({float(x) for x in alone}) == 3
    torch.testing.assert_close(scores, torch.stack(alone).mean(0))


def test_targets_of_a_batch_are_each_alone_and_linked_once(monkeypatch):
    model, episodes = (
        region_model(),
        [tiny_episode(i, 1, size=s) for i, s in ((0, (84, 112)), (1, (112, 70)))],
    )
    contexts = [context_of(model, x) for x in episodes]
    calls, inner = [], module.link_regions
    monkeypatch.setattr(module, "link_regions", lambda *a: calls.append(a[1]) or inner(*a))
    features = model.encode_images([*episodes, episodes[1]])
    found = model.segment(features, [*contexts, contexts[0]])
    model.segment(features, [*contexts, contexts[1]])
    assert calls == [(6, 8), (8, 5)]  # the third target is the second again
    for x, context, together in zip(episodes, contexts, found, strict=False):
        (one,) = model.segment(model.encode_images([x]), context)
        torch.testing.assert_close(one.logits, together.logits, atol=1e-4, rtol=1e-4)
    part = features[1:2]
    assert len(part.regions) == 1 and torch.equal(part.regions[0], features.regions[1])


def test_the_decoder_is_a_cue_where_it_has_a_weight(monkeypatch):
    episode = tiny_episode(0, 2)
    asked = []
    for weight in (0.0, 0.4):
        options = f"{R}RELATIVE", 0.0, f"{R}CUT", 0.0, f"{R}BOXES", False
        model = region_model(f"{R}DECODER", weight, *options)
        assert model.needs_weights == (weight > 0)
        inner = model.sem_seg_head.mask_decoder
        inner.tokens = lambda *a, tokens=inner.tokens: asked.append(1) or tokens(*a)
        features = model.encode_images([episode])
        matcher, context = model.sem_seg_head.matcher, context_of(model, episode)
        decoded = torch.full((2, 32, 32), 9.0)
        (found,), (cued,) = (matcher(features, [context], d) for d in (None, [decoded]))
        logits = on_canvas(torch.full((2, 6, 8), weight * 2 / 3 / 0.08), 8)  # less the neutral one
        inside = (found[0].abs() < 6) & (cued[0].abs() < 6)
        torch.testing.assert_close((cued[0] - found[0])[inside], logits[inside], atol=1e-2, rtol=0)
        assert torch.equal(cued[1], found[1])  # the score is the cells' alone
        model.segment(features, context)
    assert len(asked) == 1


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_a_target_is_correlated_once_and_statistics_are_hashed_once(weight, monkeypatch):
    model, episode = region_model(f"{R}DECODER", weight), tiny_episode(0, 2)
    model.sem_seg_head.matcher.whitening.mean = torch.ones(1, 24)
    context = context_of(model, episode)
    calls = {"maps": 0, "hash": 0}

    def counted(name, function):
        def call(*args, **options):
            calls[name] += 1
            return function(*args, **options)

        return call

    monkeypatch.setattr(Similarity, "maps", counted("maps", Similarity.maps))
    monkeypatch.setattr(module, "tensor_hash", counted("hash", module.tensor_hash))
    del model.sem_seg_head.matcher._hashes  # that the context asked for
    features = model.encode_images([episode])
    (one,), (two,) = model.segment(features, context), model.segment(features, context)
    assert calls == {"maps": 2, "hash": 1}
    expected = model.propagated_mask(features, context)[0]
    assert torch.equal(one.similarity, expected) and torch.equal(two.similarity, expected)


def test_a_thing_is_found_where_its_cells_are():
    """The target is its own reference: the mask comes back."""
    image = torch.zeros(3, 112, 112, dtype=torch.uint8)
    image[0], image[1, 28:70, 42:98] = 200, 255
    mask = torch.zeros(1, 112, 112)
    mask[:, 28:70, 42:98] = 1
    model = region_model(f"{R}THRESHOLD", 0.3)
    reference = {"image": image, "masks": mask, "entity_ids": [1]}
    (found,) = model.segment(model.encode_images([image]), model.encode_context([reference]))
    overlap = (found.masks & (mask > 0)).sum() / (found.masks | (mask > 0)).sum()
    assert overlap > 0.8 and found.scores[0] > 0.3


def test_it_takes_the_groups_that_the_propagated_mask_is_made_of():
    s = "MODEL.SEGIC.SIMILARITY."
    model = region_model(f"{s}GROUPS", 3, f"{s}PROPAGATED", 2)
    assert isinstance(model.sem_seg_head.similarity, Similarity)
    whitening = model.sem_seg_head.matcher.whitening
    assert (whitening.groups, whitening.channels) == (2, 16)
    assert context_of(model, tiny_episode(0, 1)).tensors["cells"].shape[-1] == 16


def test_small_things_have_finer_regions(monkeypatch):
    """A share of the picture below SMALL: the cut of the linkage is halved."""
    model = region_model(f"{R}SMALL", 0.1)
    image = tiny_episode(5, 1)["image"]
    masks = torch.zeros(2, 84, 112)
    masks[0, 28:42, 28:42] = masks[1, 28:, 56:] = 1
    context = model.encode_context([{"image": image, "masks": masks, "entity_ids": [1, 2]}])
    assert model.sem_seg_head.matcher.small(context).tolist() == [True, False]
    features = model.encode_images([tiny_episode(6, 1)])
    (cuts,) = model.sem_seg_head.matcher.label(features)
    assert len(cuts[1].unique()) > len(cuts[0].unique())
    found = model.segment(features, context)[0].logits
    for row, which in ((0, 1), (1, 0)):
        features.regions = [cuts[[which, which]]]
        torch.testing.assert_close(model.segment(features, context)[0].logits[row], found[row])


def test_regions_gain_by_being_like_the_best_of_their_cut():
    """Small things by finer regions; likeness is of centred features."""
    opts = f"{R}SMALL", 0.3, f"{R}RELATIVE", 0.0, f"{R}THRESHOLD", 0.2
    episode = tiny_episode(5, 2)
    plain, joined = region_model(*opts), region_model(*opts, f"{R}AGGREGATE", 0.4)
    context, features = context_of(plain, episode), plain.encode_images([episode])
    matcher = joined.sem_seg_head.matcher
    (found,), (before,) = (x.sem_seg_head.matcher(features, [context]) for x in (joined, plain))
    (cuts,) = matcher.label(features)
    units = matcher.units(features.map[0], (84, 112), whiten=False)
    values = module.match(
        matcher.units(features.map[0], (84, 112)), known(context), matcher.options.cues
    ).values
    for row, small in enumerate(matcher.small(context).tolist()):
        labels = cuts[int(small)]
        alike = 0.4 * module.regions_alike(units, labels)
        logits = module.choose_regions(values[row : row + 1], labels, 0.0, 0.2, alike)
        expected = on_canvas(logits.unflatten(1, (6, 8)), 8)[0]
        torch.testing.assert_close(found[0][row], expected)
        assert not torch.equal(found[0][row], before[0][row])
    assert torch.equal(found[1], before[1])  # the scores


def slow_prompted(model, features, context, entity, decoded, threshold):
    """Part by part: where logits of cells (P, h, w) are above 0."""
    matcher, options = model.sem_seg_head.matcher, model.sem_seg_head.matcher.options
    own = matcher.units(features.map[0], features.frames[0].content)
    values = match(own, known(context), options.cues).values
    (cuts,), found = matcher.label(features), torch.zeros(len(entity), 6, 8, dtype=torch.bool)
    for row, e in enumerate(entity.tolist()):
        cells = decoded[row].unflatten(0, (8, 4)).unflatten(2, (8, 4))[:6]  # (6, 4, 8, 4)
        chance = cells.sigmoid().mean((1, 3)).flatten()
        inside = (cells > threshold).float().mean((1, 3)).flatten()
        value = values[e] + options.decoder * (chance - 1 / 3)
        small = context.tensors["cell_areas"][e].mean() < options.small
        labels = cuts[int(small)]
        regions = [labels == i for i in labels.unique()]
        large = [r for r in regions if r.sum() >= 3] or regions
        best = max(value[r].mean() for r in large)
        for region in regions:
            if value[region].mean() - options.relative * best <= options.threshold:
                continue
            for part in flooded(region.view(6, 8).long()):
                cells = [y * 8 + x for y, x in part]
                if region[cells[0]] and inside[cells].mean() >= 0.5:
                    found[row].view(-1)[cells] = True
    return found


@pytest.mark.parametrize("cut, small", [(0.9, 0.0), (0.5, 1.0)])
def test_a_peak_takes_its_connected_chosen_regions(cut, small, monkeypatch):
    """Against a loop over parts; decoded masks are rectangles."""
    opts = f"{R}CUT", cut, f"{R}SMALL", small, f"{R}DECODER", 0.4, f"{R}RELATIVE", 0.9
    model, episode = region_model(*opts), tiny_episode(4, 2)
    features, context = model.encode_images([episode]), context_of(model, episode)
    g, entity = torch.Generator().manual_seed(3), torch.tensor([0, 0, 0, 1, 1, 1])
    decoded = torch.stack([4 * blob(32, 32, g) - 2 for _ in entity])
    decoded[0] = 9.0
    decoded[1] = -9.0
    args = features, context, entity, decoded, 0.5
    seen = []
    monkeypatch.setattr(module, "on_canvas", lambda x, grid: seen.append(x) or on_canvas(x, grid))
    found, expected = model.sem_seg_head.matcher.prompted(*args), slow_prompted(model, *args)
    assert torch.equal(seen[0] > 0, expected) and found.shape == (6, 32, 32)
    counts = expected.flatten(1).sum(1).tolist()
    assert 0 < counts[0] < 48 and counts[1] == 0 and 0 < sum(counts[2:])
    assert (
        model.sem_seg_head.matcher.prompted(*args[:2], entity[:0], decoded[:0], 0.5).shape[0] == 0
    )


def test_a_calibrated_score_is_a_logistic_of_presence_and_the_best_value():
    episode, numbers = tiny_episode(0, 2), (-2.0, 3.0, 1.5)
    plain, model = (region_model(f"{R}DECODER", 0.2, f"{R}CALIBRATION", c) for c in ((), numbers))
    decoded = [torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(1))]
    features, context = model.encode_images([episode]), context_of(model, episode)
    matcher = model.sem_seg_head.matcher
    ((_, presences),) = plain.sem_seg_head.matcher(features, [context], decoded)
    ((_, scores),) = matcher(features, [context], decoded)
    matched = matcher._matched(features, 0, known(context))
    matcher._cue(matched, decoded[0], 8, (6, 8))
    (cuts,), small = matcher.label(features), matcher.small(context).tolist()
    for row in range(2):
        value = module.best_value(matched, cuts[int(small[row])])[row]
        expected = 1 / (1 + torch.exp(-(-2 + 3 * presences[row] + 1.5 * value)))
        torch.testing.assert_close(scores[row], expected)
    model.sem_seg_head.set_share(0.5)  # tuned: the numbers are of another head
    assert torch.equal(matcher(features, [context], decoded)[0][1], presences)
