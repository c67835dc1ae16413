"""Reference cells: chosen by coverage, few, and counted."""

import torch
from torch.nn import functional as F

from segic_d2.modeling.segic.regions.cells import MOST_BYTES, choose_cells, cover, most_cells

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


def test_cells_stand_for_all_foreground_of_the_cut_and_all_background_of_the_whole():
    near, far = units(30), units(40)
    shares, around = torch.rand(30, generator=G), torch.rand(40, generator=G) * 0.2
    cells = choose_cells(near, shares, far, around, 8)
    assert cells.features.dtype == torch.float16 and cells.features.shape == (8, 5)
    front, back = cells.counts[:4], cells.counts[4:]
    assert front.sum() == (shares > 0.5).sum() and back.sum() == (around < 0.1).sum()
    torch.testing.assert_close((front * cells.shares[:4]).sum(), shares[shares > 0.5].sum())
    assert (cells.shares[:4] > 0.5).all() and (cells.shares[4:] < 0.1).all()


def test_a_thing_of_no_whole_cell_is_the_cells_it_covers_most():
    shares = torch.tensor([0.1, 0.4, 0.0, 0.4])
    found = units(4)
    cells = choose_cells(found, shares, found, torch.ones(4), 6)
    assert cells.counts.tolist() == [1, 1, 0, 0, 0, 0]  # no background anywhere
    torch.testing.assert_close(cells.features[:2].float(), found[[1, 3]], atol=1e-3, rtol=0)
    assert not cells.features[2:].any()


def test_a_shot_stays_below_400_kilobytes():
    assert most_cells(256, 768) == 256 and most_cells(7, 24) == 6
    for channels in (24, 768, 1536, 10**6):
        count = most_cells(4096, channels)
        assert count % 2 == 0 and count >= 2
        assert count == 2 or count * (2 * channels + 8) <= MOST_BYTES
