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


def entities(count=3, cells=10, channels=6):
    shares = torch.rand(count, cells, generator=G)
    shares[:, ::2] *= 0.1
    counts = torch.randint(0, 4, (count, cells), generator=G).float()
    return Known(units(count, channels) * 0.7, units(count, cells, channels), counts, shares)


def by_loops(target, known, nearest, background):
    """Each cell that another stands for is written out."""
    rows = []
    for m in range(len(known.cells)):
        every = [
            (known.cells[m, i], float(known.shares[m, i]))
            for i in range(known.cells.shape[1])
            for _ in range(int(known.counts[m, i]))
        ]
        for x in target:
            scores = [(float(x @ c), w) for c, w in every]
            weights = [math.exp(s / 0.06) for s, _ in scores]
            prop = sum(a * w for a, (_, w) in zip(weights, scores, strict=True)) / sum(weights)
            sides = []
            for inside in (lambda w: w > 0.5, lambda w: w < 0.1):
                best = sorted((s for s, w in scores if inside(w)), reverse=True)[:nearest]
                sides.append(sum(best) / max(len(best), 1))
            like = max(float(x @ known.prototypes[m]), 0) * prop
            rows.append(like + sides[0] - background * sides[1])
    return torch.tensor(rows).view(len(known.cells), -1)


@pytest.mark.parametrize("at_once", [1, 25, 2**23])
def test_cues_are_what_loops_say_however_they_are_chunked(monkeypatch, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    target, known = units(7, 6), entities()
    found = match(target, known, Cues(nearest=3, background=0.5, compete=False))
    torch.testing.assert_close(found, by_loops(target, known, 3, 0.5), atol=1e-5, rtol=1e-5)


def test_entities_that_do_not_compete_are_each_alone():
    target, known = units(7, 6), entities()
    together = match(target, known, Cues(compete=False))
    for m in range(3):
        part = [getattr(known, k)[m : m + 1] for k in vars(known)]
        torch.testing.assert_close(match(target, Known(*part), Cues()), together[m : m + 1])


def test_another_entitys_foreground_is_background():
    target, known = units(7, 6), entities()
    apart = [match(target, known, Cues(False, 3, b, False)) for b in (0.0, 1.0)]
    front, back = apart[0], apart[0] - apart[1]
    found = match(target, known, Cues(False, 3, 1.0, True))
    for m in range(3):
        others = torch.stack([front[i] for i in range(3) if i != m]).amax(0)
        torch.testing.assert_close(found[m], front[m] - torch.maximum(back[m], others))


def test_parts_are_left_out():
    target, known = units(7, 6), entities()
    assert not match(target, known, Cues(prototype=False, nearest=0)).any()
    both = match(target, known, Cues(compete=False))
    parts = (
        match(target, known, Cues(True, 0)),
        match(target, known, Cues(False, 20, compete=False)),
    )
    torch.testing.assert_close(both, sum(parts))


def test_an_entity_without_background_has_none_to_lose():
    known = entities(1)
    known.shares[:] = 1.0
    target = units(4, 6)
    assert torch.equal(match(target, known, Cues()), match(target, known, Cues(background=2.0)))
