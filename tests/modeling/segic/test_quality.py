"""What the quality token learns, and by which loss."""

import pytest
import torch

from segic_d2.modeling.segic.losses import EpisodeCriterion
from segic_d2.modeling.segic.quality import mask_iou, quality_losses


def slow_iou(logits, target, size, ignore, threshold):
    """Cell by cell; 112 px and 32 cells: 3.5 px each, so that cells share pixels."""
    shared = union = 0
    for y in range(round(size[0] / 3.5)):
        for x in range(round(size[1] / 3.5)):
            cell = (
                slice(int(3.5 * y), -int(-3.5 * (y + 1) // 1)),
                slice(int(3.5 * x), -int(-3.5 * (x + 1) // 1)),
            )
            if ignore is not None and ignore[cell].float().mean() >= 0.5:
                continue
            t, p = target[cell].float().mean() >= 0.5, logits[y, x] > threshold
            shared, union = shared + bool(t & p), union + bool(t | p)
    return shared / max(union, 1)


def test_iou_against_a_loop_over_cells():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 32, 32, generator=g)
    target = torch.zeros(3, 112, 112, dtype=torch.bool)
    target[0, 10:70, 30:77] = True
    target[1, 60:, :50] = True
    ignore = torch.zeros(112, 112, dtype=torch.bool)
    ignore[20:40, 20:60] = True
    for size in ((112, 112), (84, 63)):
        for mask in (None, ignore):
            for threshold in (0.0, 0.7):
                got = mask_iou(logits, target, size, mask, threshold)
                expected = [slow_iou(logits[i], target[i], size, mask, threshold) for i in range(3)]
                assert got.tolist() == pytest.approx(expected)
                assert got[2] == 0 < got[0]  # the third is absent, something is predicted


def test_iou_of_perfect_and_empty_masks():
    target = torch.zeros(2, 112, 112, dtype=torch.bool)
    target[0, 14:56, 28:70] = True
    low = torch.nn.functional.avg_pool2d(target[:, None].float(), 3, 3)  # any other size
    logits = torch.nn.functional.interpolate(low, (32, 32), mode="bilinear")[:, 0] - 0.5
    assert mask_iou(logits, target, (112, 112)).tolist() == [pytest.approx(1, abs=0.1), 0]
    assert mask_iou(logits - 5, target, (112, 112)).tolist() == [0, 0]


def test_the_best_estimate_is_the_expected_iou():
    """Of an entity that is absent in one of four episodes and found with 0.8 otherwise: 0.6."""
    iou = torch.tensor([0.8, 0.8, 0.8, 0.0])
    quality = torch.linspace(-4, 4, 801)
    losses = torch.stack([quality_losses(q.expand(4), iou).mean() for q in quality])
    assert quality[losses.argmin()].sigmoid().item() == pytest.approx(0.6, abs=0.005)


def criterion_inputs():
    g = torch.Generator().manual_seed(0)
    logits = [torch.randn(n, 32, 32, generator=g, requires_grad=True) for n in (1, 3)]
    targets = [torch.rand(n, 112, 112, generator=g) > 0.6 for n in (1, 3)]
    qualities = [torch.randn(n, generator=g, requires_grad=True) for n in (1, 3)]
    return logits, targets, [None, None], [11, 12], qualities, [(112, 112), (84, 112)]


def test_the_loss_of_the_quality_token():
    logits, targets, ignores, seeds, qualities, sizes = criterion_inputs()
    off = EpisodeCriterion(num_points=100)
    off = off.total(off.per_mask(logits, targets, ignores, seeds))
    on = EpisodeCriterion(num_points=100, quality_weight=2.0)
    losses = on.total(on.per_mask(logits, targets, ignores, seeds, qualities, sizes))
    assert set(off) == {"loss_mask", "loss_dice"} and losses["loss_mask"] == off["loss_mask"]
    iou = torch.cat([mask_iou(a, t, s) for a, t, s in zip(logits, targets, sizes, strict=True)])
    p = torch.cat(qualities).sigmoid()
    expected = -2 * (iou * p.log() + (1 - iou) * (1 - p).log()).mean()
    torch.testing.assert_close(losses["loss_quality"], expected)
    losses["loss_quality"].backward()
    torch.testing.assert_close(torch.cat([q.grad for q in qualities]), (p - iou).detach() / 2)
    assert all(x.grad is None for x in logits)  # the mask is not trained by its own IoU


def test_weights_and_count_of_a_batch():
    *inputs, qualities, sizes = criterion_inputs()
    criterion = EpisodeCriterion(num_points=100, quality_weight=1.0)
    parts = []
    for i in (0, 1):
        own = ([x[i]] for x in inputs)
        parts.append(criterion.total(criterion.per_mask(*own, [qualities[i]], [sizes[i]])))
    terms = criterion.per_mask(*inputs, qualities, sizes)
    got = criterion.total(terms, weights=[0.5, 2.0], count=8)
    for key in got:
        torch.testing.assert_close(got[key], (0.5 * parts[0][key] + 6 * parts[1][key]) / 8)
