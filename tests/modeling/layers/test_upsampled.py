import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segic_d2.modeling.layers.upsampled import (
    convolve_upsampled,
    similarity_of_upsampled,
    upsampled_norm,
)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("size", [6, 21, 24])
def test_the_norm_of_upsampled_features_needs_no_upsampling(rng, size):
    features = torch.randn(2, 70, 6, 6, generator=rng)
    up = F.interpolate(features, size=(size, size), mode="bilinear", align_corners=False)
    got = upsampled_norm(features, size, chunk=9)
    torch.testing.assert_close(got, up.norm(dim=1), atol=1e-5, rtol=0)


def test_the_norm_vanishes_where_neighbours_cancel():
    """Opposite vectors meet halfway: 0 up to rounding, never the root of a negative number."""
    features = torch.full((1, 7, 2, 2), 0.3)
    features[..., 1] *= -1
    got = upsampled_norm(features, 3)
    assert got.isfinite().all() and got[0, :, 1].max() < 1e-3
    torch.testing.assert_close(got[0, 0, 0], torch.tensor(0.3 * 7**0.5))


def test_gradients_of_the_similarity_are_those_of_the_plain_formula(rng):
    features = torch.randn(1, 12, 4, 4, generator=rng).requires_grad_()
    vector = F.normalize(torch.randn(12, generator=rng), dim=0)
    weight = torch.randn(14, 14, generator=rng)
    up = F.interpolate(features, size=(14, 14), mode="bilinear", align_corners=False)
    plain = F.cosine_similarity(up[0], vector[:, None, None], dim=0)
    (expected,) = torch.autograd.grad((plain * weight)[3:-3, 3:-3].sum(), features)
    dots = (vector @ features.flatten(2)[0]).reshape(1, 1, 4, 4)
    maps = similarity_of_upsampled(features, dots, 14)[0, 0]
    (got,) = torch.autograd.grad((maps * weight)[3:-3, 3:-3].sum(), features)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_the_first_of_equal_positions_at_the_border_is_the_best(rng, corner):
    """Beyond the outermost centres all samples are equal, and none wins by its rounding."""
    features = torch.randn(1, 24, 8, 8, generator=rng)
    vector = F.normalize(features[0, :, corner[0], corner[1]], dim=0)
    dots = (vector @ features.flatten(2)[0]).reshape(1, 1, 8, 8)
    maps = similarity_of_upsampled(features, dots, 28)[0, 0]
    y, x = (0 if side == 0 else 26 for side in corner)
    assert maps.flatten().argmax() == 28 * y + x
    assert (maps[y : y + 2, x : x + 2] == maps.max()).all()


@pytest.mark.parametrize("side, scale, cells", [(7, 14, 6), (4, 16, 5), (2, 8, 3), (7, 14, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_upsampled_maps_needs_no_upsampling(rng, side, scale, cells, bias):
    conv = nn.Conv2d(3, 5, side, stride=side, bias=bias).requires_grad_(False)
    maps = torch.randn(2, 3, cells, cells, generator=rng)
    size = scale * cells
    up = F.interpolate(maps, (size, size), mode="bilinear", align_corners=False)
    got = convolve_upsampled(maps, conv, size)
    torch.testing.assert_close(got, conv(up), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size, stride", [(32, 3), (31, 2)])
def test_patches_that_do_not_divide_a_cell_are_refused(rng, size, stride):
    conv = nn.Conv2d(1, 1, stride, stride=stride)
    with pytest.raises(ValueError, match=f"patches of {stride} px do not divide"):
        convolve_upsampled(torch.randn(1, 1, 4, 4, generator=rng), conv, size)
