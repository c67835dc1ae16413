"""The channels of regions, each against its own definition."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions.cells import parts
from segic_d2.modeling.segic.regions.evidence import (
    CELL,
    NEAREST,
    REFERENCE,
    SHARP,
    TOKEN,
    Told,
    gather,
    region_tokens,
)
from segic_d2.modeling.segic.regions.matching import Cues, Known, match

SIZE, CELLS = (4, 6), 12
COARSE = torch.tensor([0, 0, 0, 1, 1, 1] * 4)
FINE = torch.tensor([0, 0, 1, 2, 2, 2] * 3 + [0, 0, 1, 3, 3, 3])


def evidence(entities=2, seed=0):
    g = torch.Generator().manual_seed(seed)

    def units(*shape):
        return F.normalize(torch.randn(*shape, generator=g), dim=-1)

    own, plain, cells = units(24, 8), units(24, 8), units(entities, CELLS, 8)
    counts = torch.randint(1, 9, (entities, CELLS), generator=g).float()
    shares, prototypes = torch.rand(entities, CELLS, generator=g), units(entities, 2, 8) * 0.7
    known = Known(torch.arange(entities), entities, prototypes, cells.half(), counts, shares)
    values, logits = torch.randn(2, entities, 24, generator=g)
    told = Told(values, torch.rand(entities, 24, generator=g), logits, torch.zeros(entities) > 0)
    areas = torch.tensor([0.01, 0.2])[:entities]
    labels = torch.stack([COARSE, FINE])
    return own, known, told, gather(own, plain, known, areas, told, labels, SIZE), areas


def test_the_channels_of_cells():
    own, known, told, found, _ = evidence(1)
    maps = dict(zip(CELL, found.cells[0].T, strict=True))
    cosines, counts = own @ known.cells[0].float().T, known.counts[0]
    front, behind = slice(0, 6), parts(CELLS)[2]
    prototypes = F.normalize(known.prototypes[0], dim=1)
    torch.testing.assert_close(maps["alike"], (own @ prototypes.T).amax(1))
    torch.testing.assert_close(maps["nearest"], cosines[:, front].amax(1))
    torch.testing.assert_close(maps["hardest"], cosines[:, behind].amax(1))
    assert torch.equal(maps["value"], told.values[0]) and torch.equal(
        maps["chance"], told.chance[0]
    )
    for name, part in (("taken", front), ("left", behind)):
        look = (cosines[:, part] / SHARP).softmax(0) * 24
        mean = (look * counts[part]).sum(1) / counts[part].sum()
        torch.testing.assert_close(maps[name], mean.log1p())
    for i in (0, 7, 23):  # the 20 nearest background cells, each as often as it counts
        row = sorted(zip(cosines[i, behind].tolist(), counts[behind].tolist(), strict=True))[::-1]
        each = [value for value, count in row for _ in range(int(count))][:NEAREST]
        assert float(maps["behind"][i]) == pytest.approx(sum(each) / len(each), abs=1e-5)


def test_what_matching_has_said_is_not_asked_again():
    own, known, told, found, areas = evidence(2)
    known = replace(known, cells=known.cells.clone())
    known.cells[1, 4:] = known.cells[0, 4:]  # of one picture
    plain, labels = torch.eye(24), torch.stack([COARSE, FINE])
    slow = gather(own, plain, known, areas, told, labels, SIZE)
    said = match(own, known, Cues()).said
    fast = gather(own, plain, known, areas, replace(told, said=said), labels, SIZE)
    torch.testing.assert_close(fast.cells, slow.cells)
    assert match(own, known, Cues(nearest=5)).said is None


def test_another_entitys_foreground_is_background():
    *_, alone, _ = evidence(1)
    *_, both, _ = evidence(2)
    near, behind = (both.cells[..., CELL.index(name)] for name in ("near", "behind"))
    assert (behind[0] >= near[1] - 1e-6).all() and (behind[1] >= near[0] - 1e-6).all()
    assert alone.cells.shape == (1, 24, len(CELL)) and both.references.shape == (2, len(REFERENCE))


def test_what_references_say_of_themselves():
    *_, found, areas = evidence(2)
    torch.testing.assert_close(found.references[:, 0], areas.log())
    torch.testing.assert_close(found.references[:, 5], torch.tensor([0.7, 0.7]))


def test_tokens_are_means_places_and_likeness():
    *_, found, _ = evidence(2)
    tokens = region_tokens(found)
    assert tokens.shape == (2, 4, TOKEN)
    coarse = [found.cells[:, COARSE == r].mean(1) for r in (0, 1)]  # (2, E)
    best = [max((0, 1), key=lambda r: float(coarse[r][n, 6])) for n in (0, 1)]
    for region, parent in ((0, 0), (1, 0), (2, 1), (3, 1)):
        own, e = found.cells[:, FINE == region], len(CELL)
        torch.testing.assert_close(tokens[:, region, :e], own.mean(1))
        torch.testing.assert_close(tokens[:, region, e : 2 * e], coarse[parent])
        leader = torch.stack([coarse[best[n]][n] for n in (0, 1)])
        torch.testing.assert_close(tokens[:, region, 2 * e : 3 * e], own.mean(1) - leader)
        torch.testing.assert_close(tokens[:, region, 3 * e], own[..., 6].amax(1))
        count = (FINE == region).sum()
        share = torch.full((2,), float((count / 24).log() / 4))
        torch.testing.assert_close(tokens[:, region, 3 * e + 1], share)
    assert torch.equal(tokens[..., -6:], found.references[:, None].expand(-1, 4, -1))


def test_numbers_of_regions_do_not_matter():
    *_, found, _ = evidence(2)
    tokens, order = region_tokens(found), torch.tensor([2, 0, 3, 1])
    found.labels = torch.stack([1 - COARSE, order[FINE]])
    found.alike = torch.zeros_like(found.alike).index_put(
        (order[:, None], order[None]), found.alike
    )
    found.compact = torch.zeros_like(found.compact).index_put((order,), found.compact)
    torch.testing.assert_close(region_tokens(found)[:, order], tokens)
