"""Cues against loops over cells."""

import math

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions import matching as module
from segic_d2.modeling.segic.regions.matching import Cues, Known, match

G = torch.Generator().manual_seed(0)


def units(*shape):
    return F.normalize(torch.randn(*shape, generator=G), dim=-1)


def shots(entity=(0, 1, 1, 2), cells=12, channels=6):
    """Of three entities, the second of which has two."""
    shares = torch.rand(len(entity), cells, generator=G)
    counts = torch.randint(0, 4, (len(entity), cells), generator=G).float()
    prototypes = units(len(entity), 2, channels) * 0.7
    return Known(
        torch.tensor(entity), 3, prototypes, units(len(entity), cells, channels), counts, shares
    )


def of_entity(known, m):
    rows = known.entity == m
    parts = [getattr(known, k)[rows] for k in ("prototypes", "cells", "counts", "shares")]
    return Known(torch.zeros(int(rows.sum()), dtype=torch.long), 1, *parts)


def one_shot(x, known, m, nearest, background):
    """What one shot says of one cell; each cell that another stands for is written out."""
    every = [
        (float(x @ known.cells[m, i]), float(known.shares[m, i]), i)
        for i in range(12)
        for _ in range(int(known.counts[m, i]))
    ]
    weights = [math.exp(s / 0.06) for s, _, _ in every]
    taken = sum(a * w for a, (_, w, _) in zip(weights, every, strict=True)) / sum(weights)
    sides = []
    for first, stop in ((0, 4), (4, 6), (6, 12)):
        best = sorted((s for s, _, i in every if first <= i < stop), reverse=True)[:nearest]
        sides.append(sum(best) / max(len(best), 1))
    shown = max(float(x @ p) for p in known.prototypes[m])
    value = max(shown, 0) * taken + max(sides[:2]) - background * sides[2]
    return value, max(float(x @ p / p.norm()) for p in known.prototypes[m]), max(sides[:2])


@pytest.mark.parametrize("at_once", [1, 40, 2**23])
def test_cues_are_what_loops_say_however_they_are_chunked(monkeypatch, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    target, known = units(7, 6), shots()
    found = match(target, known, Cues(nearest=3, background=0.5, compete=False))
    said = torch.tensor([[one_shot(x, known, m, 3, 0.5) for x in target] for m in range(4)])
    expected = torch.stack([said[0], said[1:3].mean(0), said[3]]).unbind(-1)
    told = found.shots.values, found.shots.cosines, found.shots.nearest
    for one, mine in zip(told, said.unbind(-1), strict=True):
        torch.testing.assert_close(one, mine)
    told = found.values, found.cosines, found.nearest
    torch.testing.assert_close(told, expected, atol=1e-5, rtol=1e-5)


def test_entities_that_do_not_compete_are_each_alone():
    target, known = units(7, 6), shots()
    together = match(target, known, Cues(compete=False))
    for m in range(3):
        alone = match(target, of_entity(known, m), Cues())
        torch.testing.assert_close(alone.values[0], together.values[m])
        torch.testing.assert_close(alone.cosines[0], together.cosines[m])


def test_another_entitys_foreground_is_background():
    target, known = units(7, 6), shots()
    front, both = (match(target, known, Cues(False, 3, b, False)).values for b in (0.0, 1.0))
    back = front - both
    found = match(target, known, Cues(False, 3, 1.0, True)).values
    for m in range(3):
        others = torch.stack([front[i] for i in range(3) if i != m]).amax(0)
        torch.testing.assert_close(found[m], front[m] - torch.maximum(back[m], others))


def test_parts_are_left_out():
    target, known = units(7, 6), shots()
    assert not match(target, known, Cues(prototype=False, nearest=0)).values.any()
    both = match(target, known, Cues(compete=False)).values
    alone = Cues(True, 0, compete=False), Cues(False, 20, compete=False)
    torch.testing.assert_close(both, sum(match(target, known, cues).values for cues in alone))


@pytest.mark.parametrize("at_once", [40, 2**23])
def test_backward_matching_asks_the_nearest_reference_cell(monkeypatch, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    target, known, said = units(7, 6), shots(), torch.zeros(4, 7)
    for m in range(4):
        for i, x in enumerate(target):
            there = [j for j in range(12) if known.counts[m, j] > 0]
            nearest = max(there, key=lambda j, m=m, x=x: float(x @ known.cells[m, j]))
            shown = max(float(x @ p) for p in known.prototypes[m])
            said[m, i] = max(shown, 0) * (known.shares[m, nearest] > 0.5)
    found = match(target, known, Cues(nearest=0, backward=True)).values
    torch.testing.assert_close(found, torch.stack([said[0], said[1:3].mean(0), said[3]]))
    assert 0 < (found > 0).sum() < found.numel()


def test_an_entity_without_background_has_none_to_lose():
    known, target = of_entity(shots(), 0), units(4, 6)
    known.counts[:, 6:] = 0
    found = [match(target, known, Cues(background=b)).values for b in (0.5, 2.0)]
    assert torch.equal(*found)


def test_weights_of_shots_count_in_means():
    known, values = shots(), torch.rand(4, 5, generator=G)
    known.weight = torch.tensor([0.4, 0.25, 0.75, 1.0])
    expected = torch.stack([values[0], values[1] / 4 + 3 * values[2] / 4, values[3]])
    torch.testing.assert_close(known.mean(values), expected)


def test_equal_cells_are_compared_once():
    """As those that shots of one frame share."""
    kinds, target = units(9, 8).half(), units(7, 8)
    cells = kinds[torch.randint(0, 9, (5, 12), generator=G)]
    rows, place = module.distinct(cells.flatten(0, 1))
    assert len(rows) <= 9 and torch.equal(cells.flatten(0, 1)[rows][place], cells.flatten(0, 1))
    plain = target @ cells.float().transpose(1, 2)
    torch.testing.assert_close(module.cosines_to(cells, target), plain, atol=1e-6, rtol=0)


def test_cells_are_not_parted_where_it_does_not_pay():
    assert module.distinct(units(20, 8).half()) is None  # all are of their own kind
    assert module.distinct(units(1, 8).repeat(20, 1)) is None  # of another precision
    assert module.distinct(units(1, 6).half().repeat(20, 1)) is None  # of no whole words


def test_cells_whose_hashes_meet_are_not_taken_for_equal():
    """Signs flipped in two elements of the highest bits, of which sums know nothing."""
    cells = units(1, 8).half().repeat(4, 1)
    cells[::2, 3] *= -1
    cells[::2, 7] *= -1
    assert module.distinct(cells) is None
    plain = cells.float() @ cells.float().T
    torch.testing.assert_close(
        module.cosines_to(cells[None].expand(2, -1, -1), cells.float())[1], plain
    )


@pytest.mark.parametrize("most", [1, 5, 9])
def test_the_highest_are_those_of_topk(most):
    values = torch.rand(3, 7, 9, generator=G)[:, :, torch.randperm(9, generator=G)]
    values[0, :, 4] = -torch.inf
    found, order = module.highest(values, most)
    expected = values.topk(most)
    assert torch.equal(found, expected.values) and torch.equal(order, expected.indices)
    assert torch.equal(
        module.highest(values.transpose(0, 1), most)[0], expected.values.transpose(0, 1)
    )
