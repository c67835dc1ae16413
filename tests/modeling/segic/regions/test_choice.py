"""Which regions are taken."""

import pytest
import torch

from segic_d2.modeling.segic.regions.choice import SMALLEST, SOFTNESS, best_region, choose_regions

LABELS = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
VALUES = torch.tensor([[0.5, 0.4, 0.6, 0.1, 0.3, 0.2, 0.2, 0.9, 0.9]])


def test_regions_are_compared_with_the_best_large_one():
    logits = choose_regions(VALUES, LABELS, 0.3, 0.1)
    assert SMALLEST == 3  # the best region of all, a pair of cells, is too small
    means = torch.tensor([0.5, 0.2, 0.9])[LABELS]
    torch.testing.assert_close(logits[0], (means - 0.15 - 0.1) / SOFTNESS)
    assert (logits[0] > 0).tolist() == [True] * 3 + [False] * 4 + [True] * 2


def test_where_all_regions_are_small_any_is_the_best():
    means, count = torch.tensor([[0.1, 0.9, 0.4]]), torch.tensor([3, 2, 4])
    assert best_region(means, count).tolist() == pytest.approx([0.4])
    assert best_region(means, torch.tensor([1, 2, 2])).tolist() == pytest.approx([0.9])
