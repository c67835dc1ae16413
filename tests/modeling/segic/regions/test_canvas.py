"""Between maps over the canvas and cells."""

import torch

from segic_d2.modeling.segic.regions.canvas import in_cells, on_canvas


def test_in_cells_are_means_of_the_content():
    maps = torch.arange(64.0).view(1, 8, 8)
    found = in_cells(maps, 4, (2, 3))
    expected = [
        maps[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() for y in (0, 1) for x in (0, 1, 2)
    ]
    torch.testing.assert_close(found, torch.stack(expected)[None])


def test_on_canvas_goes_on_beyond_the_content():
    logits = torch.tensor([[[0.0, 9.0], [1.0, -2.0], [1.0, -9.0]]])
    found = on_canvas(logits, 4)
    assert found.shape == (1, 16, 16) and found.max() == 6 and found.min() == -6
    assert torch.equal(found[:, :, 8:], found[:, :, 7:8].expand(-1, -1, 8))
    assert torch.equal(found[:, 12:], found[:, 11:12].expand(-1, 4, -1))
