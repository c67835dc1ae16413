"""Regions against average linkage by the definition."""

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions import linkage as module
from segic_d2.modeling.segic.regions.linkage import connected_parts, link_regions, region_means

G = torch.Generator().manual_seed(0)


def average_linkage(distance, cut):
    """Merge the two clusters of the least mean distance until none is at most ``cut``."""
    clusters = [[i] for i in range(len(distance))]
    while len(clusters) > 1:
        pairs = [(a, b) for a in range(len(clusters)) for b in range(a)]
        means = [distance[clusters[a]][:, clusters[b]].mean() for a, b in pairs]
        best = min(range(len(pairs)), key=means.__getitem__)
        if means[best] > cut:
            break
        a, b = pairs[best]
        clusters[b] += clusters.pop(a)
    return {frozenset(c) for c in clusters}


@pytest.mark.parametrize("cut, position", [(0.5, 0.0), (0.9, 0.3), (0.7, 1.0)])
def test_regions_are_average_linkage(cut, position):
    units = F.normalize(torch.rand(15, 6, generator=G) - 0.3, dim=1)
    other, labels = link_regions(units, (3, 5), (0.1, cut), position)
    place = torch.tensor([[y, x] for y in range(3) for x in range(5)]) / 5
    distance = 1 - units @ units.T + position * (place[:, None] - place).norm(dim=-1)
    expected = average_linkage(distance.double(), cut)
    assert {frozenset((labels == i).nonzero()[:, 0].tolist()) for i in labels.unique()} == expected
    assert 1 < len(expected) < 15 and labels.dtype == torch.int64
    assert labels.unique().tolist() == list(range(len(expected)))
    assert torch.equal(other, link_regions(units, (3, 5), (0.1,), position)[0])


def test_without_a_cut_every_cell_is_its_own():
    units = F.normalize(torch.rand(6, 4, generator=G), dim=1)
    assert link_regions(units, (2, 3), (0.0,), 0.3).tolist() == [list(range(6))]
    assert len(link_regions(units, (2, 3), (0.0, 2.0), 0.3)[0].unique()) == 6
    assert link_regions(torch.rand(1, 4), (1, 1), (0.6, 0.3), 0.3).tolist() == [[0], [0]]


def test_large_pictures_are_linked_by_blocks(monkeypatch):
    """Never more than MOST cells; two halves of a picture are still told apart."""
    sizes, inner = [], module.linkage
    monkeypatch.setattr(module, "MOST", 20)
    monkeypatch.setattr(module, "linkage", lambda p, m: sizes.append(len(p)) or inner(p, m))
    units = torch.zeros(9, 11, 2)
    units[:, :6, 0] = units[:, 6:, 1] = 1
    labels = link_regions(units.flatten(0, 1), (9, 11), (0.6,), 0.0)[0].view(9, 11)
    assert max(sizes) <= 20 * 19 / 2 and labels.unique().tolist() == [0, 1]
    assert (labels[:, :6] == labels[0, 0]).all() and (labels[:, 6:] == labels[0, 10]).all()


def test_region_means():
    values, labels = torch.rand(3, 7, generator=G), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    means, count = region_means(values, labels)
    assert count.tolist() == [2, 2, 3]
    for i in range(3):
        torch.testing.assert_close(means[:, i], values[:, labels == i].mean(1))


def flooded(labels):
    """The connected parts by a walk from each cell: sets of (y, x)."""
    rest, found = {(y, x) for y in range(len(labels)) for x in range(len(labels[0]))}, set()
    while rest:
        part, todo = set(), [min(rest)]
        while todo:
            y, x = cell = todo.pop()
            part.add(cell)
            beside = rest.intersection({(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)}) - part
            todo += [other for other in beside if labels[other] == labels[cell]]
        rest -= part
        found.add(frozenset(part))
    return found


def test_connected_parts_against_a_walk():
    labels = torch.randint(0, 3, (6, 9), generator=G)
    got = connected_parts(labels.flatten(), (6, 9)).view(6, 9)
    expected = flooded(labels)
    assert {frozenset(map(tuple, (got == i).nonzero().tolist())) for i in got.unique()} == expected
    assert got.unique().tolist() == list(range(len(expected))) and len(expected) > 5
    assert connected_parts(torch.zeros(1, dtype=torch.long), (1, 1)).tolist() == [0]
