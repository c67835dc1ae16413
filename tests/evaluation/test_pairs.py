"""Metrics of ordered pairs against slow, obvious loops."""

import itertools

import numpy as np
import pytest
import torch

from segic_d2.evaluation.pairs import PooledIoU, auroc, boundary, overlap
from segic_d2.evaluation.threshold import best_threshold, histograms


def slow_boundary(mask, ratio):
    """Pixels with something outside of the mask, or of the picture, within the distance."""
    height, width = mask.shape
    d = max(1, round(ratio * (height**2 + width**2) ** 0.5))
    near = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        for v, u in itertools.product(range(y - d, y + d + 1), range(x - d, x + d + 1)):
            if not (0 <= v < height and 0 <= u < width) or not mask[v, u]:
                near[y, x] = True
    return near


@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.9])
def test_boundary_against_a_loop(ratio):
    rng = np.random.default_rng(0)
    for _ in range(3):
        mask = np.kron(rng.random((4, 5)) > 0.35, np.ones((6, 7))) > 0
        assert (boundary(torch.from_numpy(mask), ratio).numpy() == slow_boundary(mask, ratio)).all()


def test_overlap_and_pooling_against_a_loop():
    rng = np.random.default_rng(1)
    pooled, sums = PooledIoU(), np.zeros((2, 4), dtype=int)
    for label in (0, 1, 1):
        mask, truth = (np.kron(rng.random((5, 6)) > 0.4, np.ones((4, 4))) > 0 for _ in range(2))
        pooled.add((label, "ab"[label]), overlap(torch.from_numpy(mask), torch.from_numpy(truth)))
        edges = slow_boundary(mask, 0.02), slow_boundary(truth, 0.02)
        for i, (one, other) in enumerate(((mask, truth), edges)):
            sums[label, 2 * i] += sum(p and t for p, t in zip(one.flat, other.flat, strict=True))
            sums[label, 2 * i + 1] += sum(p or t for p, t in zip(one.flat, other.flat, strict=True))
    result = pooled.result()
    assert result["classes"]["b"]["IoU"] == pytest.approx(100 * sums[1, 0] / sums[1, 1])
    assert result["classes"]["a"]["boundary_IoU"] == pytest.approx(100 * sums[0, 2] / sums[0, 3])
    assert result["IoU"] == pytest.approx(50 * (sums[:, 0] / sums[:, 1]).sum())
    assert result["boundary_IoU"] == pytest.approx(50 * (sums[:, 2] / sums[:, 3]).sum())


def test_best_threshold_against_all_thresholds():
    g = torch.Generator().manual_seed(0)
    values = [torch.rand(2, 9, 8, generator=g) * 1.6 - 0.8 for _ in range(2)]
    truths = [v + 0.4 * torch.randn(v.shape, generator=g) > 0.2 for v in values]
    levels = [
        sum(histograms(*x) for x in zip(v, t, strict=True))
        for v, t in zip(values, truths, strict=True)
    ]
    threshold, best = best_threshold(levels)

    def mean_iou(t):
        pairs = ((v >= t, truth) for v, truth in zip(values, truths, strict=True))
        return sum(float((m & x).sum() / (m | x).sum()) for m, x in pairs) * 50

    assert best == pytest.approx(mean_iou(threshold))
    assert best == pytest.approx(max(mean_iou(-1 + k / 1000) for k in range(2000)))


def test_auroc_against_all_couples():
    rng = np.random.default_rng(0)
    present, absent = rng.integers(2, 9, 40) / 10, rng.integers(0, 7, 30) / 10  # with ties
    couples = list(itertools.product(present, absent))
    expected = sum((p > a) + 0.5 * (p == a) for p, a in couples) / len(couples)
    assert 0.5 < expected < 1
    assert auroc(present, absent) == pytest.approx(expected)
    assert auroc([0.9], [0.1]) == 1 and np.isnan(auroc([], [0.1]))
