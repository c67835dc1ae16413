"""Losses at sampled points, of each mask and of a batch."""

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.losses import EpisodeCriterion, draws_of, mask_losses, sample_points


def losses_of(batch, **options):
    """The losses of logits, targets, ignored pixels and seeds of a batch."""
    criterion = EpisodeCriterion(**options)
    return criterion.total(criterion.per_mask(*batch))


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    logits = [torch.randn(n, 32, 32, generator=g) for n in (1, 3)]
    targets = [torch.rand(n, 112, 112, generator=g) > 0.6 for n in (1, 3)]
    return logits, targets, [None, None], [11, 12]


def test_points_are_12544_of_which_9408_are_the_most_uncertain():
    logits = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(0))
    with draws_of(5, torch.device("cpu")):
        points = sample_points(logits, 12544)
    assert points.shape == (2, 12544, 2)
    torch.manual_seed(5)
    candidates = torch.rand(2, 37632, 2)
    values = F.grid_sample(logits[:, None], 2 * candidates[:, :, None] - 1, align_corners=False)
    threshold = values.flatten(1).abs().sort(1).values[:, 9407:9408]
    chosen = F.grid_sample(logits[:, None], 2 * points[:, :, None] - 1, align_corners=False)
    assert ((chosen.flatten(1).abs() <= threshold).sum(1) >= 9408).all()
    assert (chosen.flatten(1)[:, :9408].abs() <= threshold).all()


def test_a_perfect_prediction_costs_nothing():
    target = torch.zeros(1, 128, 128)
    target[:, 32:96, 32:96] = 1
    logits = (F.avg_pool2d(target, 4) * 2 - 1) * 20
    # keep off the boundary, where bilinear samples of logits and labels differ
    points = torch.rand(1, 4096, 2, generator=torch.Generator().manual_seed(0))
    inside = ((points - 0.5).abs().amax(-1) - 0.25).abs() > 0.03
    bce, dice = mask_losses(logits, target, points[inside][None])
    assert bce.item() < 1e-5 and dice.item() < 1e-5
    loss = losses_of(([logits], [target > 0], [None], [0]))
    assert loss["loss_mask"] < 0.15 and loss["loss_dice"] < 0.1


def test_empty_and_full_targets_give_finite_losses(batch):
    logits = [torch.full((1, 32, 32), -20.0), torch.randn(2, 32, 32)]
    targets = [torch.zeros(1, 112, 112, dtype=torch.bool), torch.ones(2, 112, 112) > 0]
    losses = losses_of((logits, targets, [None, None], [0, 1]))
    assert all(torch.isfinite(x) for x in losses.values())
    nothing = losses_of((logits[:1], targets[:1], [None], [0]))
    assert nothing["loss_mask"] < 1e-5 and nothing["loss_dice"] < 0.05


def test_bce_and_dice_against_their_formulas():
    g = torch.Generator().manual_seed(1)
    logits, points = torch.randn(2, 16, 16, generator=g), torch.rand(2, 50, 2, generator=g)
    targets = (torch.rand(2, 64, 64, generator=g) > 0.5).float()
    bce, dice = mask_losses(logits, targets, points)
    for n in range(2):
        grid = 2 * points[n][None, None] - 1
        x = F.grid_sample(logits[n][None, None], grid, align_corners=False).flatten()
        t = F.grid_sample(targets[n][None, None], grid, align_corners=False).flatten()
        p = x.sigmoid()
        torch.testing.assert_close(bce[n], -(t * p.log() + (1 - t) * (1 - p).log()).mean())
        torch.testing.assert_close(dice[n], 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))


def test_ignored_pixels_do_not_count(batch):
    g = torch.Generator().manual_seed(2)
    logits, target = torch.randn(1, 28, 28, generator=g), torch.zeros(1, 112, 112)
    ignore = torch.zeros(112, 112, dtype=torch.bool)
    ignore[:, 56:] = True
    points = torch.rand(1, 500, 2, generator=g)
    wrong = target.clone()
    wrong[:, :, 60:] = 1
    for a, b in zip(
        mask_losses(logits, target, points, ignore),
        mask_losses(logits, wrong, points, ignore),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    kept = points[points[..., 0] < 0.5][None]
    torch.testing.assert_close(
        mask_losses(logits, target, points, ignore)[0], mask_losses(logits, target, kept)[0]
    )


def test_pinned_values(batch):
    losses = losses_of(batch, num_points=1000)
    assert losses["loss_mask"].item() == pytest.approx(0.707652, abs=1e-5)
    assert losses["loss_dice"].item() == pytest.approx(0.557288, abs=1e-5)


def test_a_sample_draws_the_same_points_in_any_batch(batch):
    logits, targets, ignores, seeds = batch
    both = losses_of(batch, num_points=500)
    parts = [
        losses_of(([x], [t], [None], [s]), num_points=500)
        for x, t, s in zip(logits, targets, seeds, strict=True)
    ]
    for key in both:
        torch.testing.assert_close(both[key], (parts[0][key] + 3 * parts[1][key]) / 4)


def test_draws_leave_the_global_generator_alone(batch):
    torch.manual_seed(7)
    losses_of(batch, num_points=100)
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(3))


def test_two_processes_average_over_all_masks(batch, monkeypatch):
    """Each process divides by the masks per process, so that their mean is the joint loss."""
    from segic_d2.modeling.segic import losses as module

    logits, targets, _, seeds = batch
    joint = losses_of(batch, num_points=500)
    monkeypatch.setattr(module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda t: t.fill_(4))
    split = [
        losses_of(([x], [t], [None], [s]), num_points=500)
        for x, t, s in zip(logits, targets, seeds, strict=True)
    ]
    for key in joint:
        torch.testing.assert_close(joint[key], (split[0][key] + split[1][key]) / 2)
    own = losses_of((logits[1:], targets[1:], [None], seeds[1:]), num_points=500, process_mean=True)
    torch.testing.assert_close(own["loss_mask"] * 3 / 2, split[1]["loss_mask"])
