"""Which regions are taken."""

import pytest
import torch

from segic_d2.modeling.segic.regions.choice import (
    SMALLEST,
    SOFTNESS,
    best_region,
    best_value,
    choose_regions,
    presence,
    regions_alike,
)
from segic_d2.modeling.segic.regions.matching import Matched

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


def test_presence_is_the_highest_cosine_and_what_is_near_in_the_best_large_region():
    cosines = torch.tensor([[0.1, 0.2, 0.3, 0.9, 0.1, 0.1, 0.1, 0.5, 0.5]]).repeat(2, 1)
    nearest = torch.tensor([[0.6, 0.6, 0.3, 0.9, 0.9, 0.9, 0.9, 1.0, 1.0]]).repeat(2, 1)
    values = torch.cat([VALUES, -VALUES])
    found = presence(Matched(values, cosines, nearest), LABELS)
    torch.testing.assert_close(found, torch.tensor([(1.8 + 0.5) / 3, (1.8 + 0.9) / 3]))
    assert presence(Matched(values, -cosines, nearest - 1), LABELS).tolist() == [0, 0]
    assert best_value(Matched(values, cosines, nearest), LABELS).tolist() == pytest.approx(
        [0.5, -0.2]
    )


def test_regions_join_the_best_one_by_their_likeness():
    units, labels = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), LABELS
    values = torch.stack([VALUES[0], VALUES[0, [3, 3, 3, 0, 0, 0, 0, 0, 0]]])
    alike = 0.3 * regions_alike(units, labels)
    found = choose_regions(values, labels, 0.3, 0.1, alike)
    regions = [labels == r for r in range(3)]
    prototypes = [units[inside].mean(0) for inside in regions]
    for entity, seed in ((0, 0), (1, 1)):  # the pair of cells is too small to be one
        means = [float(values[entity, inside].mean()) for inside in regions]
        for r, inside in enumerate(regions):
            cosine = float(torch.cosine_similarity(prototypes[r], prototypes[seed], dim=0))
            value = means[r] + 0.3 * cosine - 0.3 * means[seed] - 0.1
            assert found[entity, inside] == pytest.approx(value / SOFTNESS, abs=1e-5)
    nothing = choose_regions(values, labels, 0.3, 0.1, 0 * alike)
    assert torch.equal(nothing, choose_regions(values, labels, 0.3, 0.1))
