"""Reference cells: chosen by coverage, few, and counted."""

import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions.cells import MOST_BYTES, choose_cells, cover, most_cells, parts

G = torch.Generator().manual_seed(0)


def units(n, channels=5):
    return F.normalize(torch.randn(n, channels, generator=G), dim=1)


def test_always_the_cell_that_is_least_like_those_chosen():
    found, chosen = units(20), []
    rows = cover(found, 6).tolist()
    for row in rows:
        if chosen:
            nearest = [max(float(found[i] @ found[j]) for j in chosen) for i in range(20)]
            assert nearest[row] == min(nearest)
        chosen.append(row)
    assert len(set(rows)) == 6 and rows[0] == int((found @ found.mean(0)).argmax())
    assert cover(found[:3], 6).tolist() == [0, 1, 2]


def test_cells_stand_for_the_thing_in_both_views_and_for_all_background():
    near, far = units(30), units(40)
    shares, around = torch.rand(30, generator=G), torch.rand(40, generator=G) * 0.7
    cells = choose_cells(near, shares, far, around, 12)
    assert cells.features.dtype == torch.float16 and cells.features.shape == (12, 5)
    assert [p.stop - p.start for p in parts(12)] == [4, 2, 6]
    inside = shares > 0.5, around > 0.5, around < 0.1
    for part, own, which in zip(parts(12), (shares, around, around), inside, strict=True):
        assert cells.counts[part].sum() == which.sum() > 0
        torch.testing.assert_close((cells.counts * cells.shares)[part].sum(), own[which].sum())


def test_a_thing_of_no_whole_cell_is_the_cells_it_covers_most():
    shares = torch.tensor([0.1, 0.4, 0.0, 0.4])
    found = units(4)
    cells = choose_cells(found, shares, found, torch.tensor([0.2, 0.3, 0.2, 0.2]), 12)
    assert cells.counts.tolist() == [1, 1, 0, 0, 1, 0, *[0] * 6]  # no background anywhere
    expected = found[[1, 3, 1]]
    torch.testing.assert_close(cells.features[[0, 1, 4]].float(), expected, atol=1e-3, rtol=0)
    assert not cells.features[[2, 3, *range(5, 12)]].any()


def test_a_shot_stays_below_400_kilobytes():
    assert most_cells(240, 768) == 240 and most_cells(7, 24) == 6
    for channels in (24, 768, 1536, 10**6):
        count = most_cells(4096, channels)
        assert count % 6 == 0 and count >= 6
        assert count == 6 or count * (2 * channels + 8) <= MOST_BYTES
