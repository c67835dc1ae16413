import math

import pytest
import torch

from segic_d2.modeling.layers.matching import (
    from_canvas_px,
    nearest_points,
    sample_features,
    to_canvas_px,
)

CANVAS, SIDE, STEP = 112, 8, 14


def slow_nearest(source, target, xy, sizes, own_sizes):
    """Point by point, neighbour by neighbour, cell by cell; pixels as squares, not centres."""
    found = []
    (h, w), (th, tw) = sizes
    (own_h, own_w), (out_h, out_w) = own_sizes
    columns = [i for i in range(SIDE) if (i + 0.5) * STEP < w] or [0]
    rows = [i for i in range(SIDE) if (i + 0.5) * STEP < h] or [0]
    for x, y in xy.tolist():
        u = (x + 0.5) / own_w * w / STEP - 0.5  # in cells
        v = (y + 0.5) / own_h * h / STEP - 0.5
        u, v = min(max(u, 0), columns[-1]), min(max(v, 0), rows[-1])
        wanted = torch.zeros(len(source))
        for i in (math.floor(v), math.floor(v) + 1):
            for j in (math.floor(u), math.floor(u) + 1):
                share = (1 - abs(v - i)) * (1 - abs(u - j))
                if share > 0:
                    wanted += share * source[:, i, j]
        best, place = -2.0, None
        for i in range(SIDE):
            for j in range(SIDE):
                inside = (i == 0 or (i + 0.5) * STEP < th) and (j == 0 or (j + 0.5) * STEP < tw)
                cosine = torch.cosine_similarity(wanted, target[:, i, j], 0).item()
                if inside and cosine > best:
                    best, place = cosine, (i, j)
        i, j = place
        found.append(((j + 0.5) * STEP / tw * out_w - 0.5, (i + 0.5) * STEP / th * out_h - 0.5))
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(4))
def test_nearest_points_against_a_plain_loop(seed):
    g = torch.Generator().manual_seed(seed)
    source, target = torch.randn(2, 6, SIDE, SIDE, generator=g)
    sizes = [
        ((112, 70), (84, 112)),
        ((56, 112), (112, 112)),
        ((112, 9), (9, 112)),
        ((98,) * 2,) * 2,
    ]
    own = (224, 141), (170, 229)
    xy = torch.rand(20, 2, generator=g, dtype=torch.float64) * torch.tensor([141, 224]) - 0.5
    xy[0], xy[1] = torch.tensor([0.0, 0.0]), torch.tensor([140.0, 223.0])
    got = nearest_points(source, target, xy, sizes[seed], own, CANVAS)
    expected = slow_nearest(source, target, xy, sizes[seed], own)
    torch.testing.assert_close(got, expected, atol=1e-9, rtol=0)
    assert (got[:, 0] < own[1][1]).all() and (got[:, 1] < own[1][0]).all()


def test_a_cell_centre_finds_itself_in_another_size_of_the_picture():
    """The file twice as large, resized to the same canvas: coordinates scale, with half pixels."""
    features = torch.randn(16, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    cells = torch.tensor([[0, 0], [3, 2], [7, 5]], dtype=torch.float64)
    canvas_px = (cells + 0.5) * STEP - 0.5
    small, large, content = (84, 112), (168, 224), (84, 112)
    xy = from_canvas_px(canvas_px, small, content)
    got = nearest_points(features, features, xy, (content, content), (small, large), CANVAS)
    torch.testing.assert_close(got, (canvas_px + 0.5) * 2 - 0.5, atol=1e-9, rtol=0)
    torch.testing.assert_close(to_canvas_px(got, large, content), canvas_px)


def test_padding_is_neither_sampled_nor_found():
    features = torch.zeros(2, SIDE, SIDE)
    features[0], features[1, :, 4:] = 1, 100  # the right half is padding
    xy = torch.tensor([[54.0, 10.0], [55.4, 55.0]], dtype=torch.float64)
    assert sample_features(features, xy, (112, 56), CANVAS).tolist() == [[1, 0], [1, 0]]
    features[0, 2, 3] = 0.5
    got = nearest_points(features, features, xy, ((112, 56),) * 2, ((112, 56),) * 2, CANVAS)
    assert (got[:, 0] < 56).all()
