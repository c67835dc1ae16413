import pytest
import torch

from segic_d2.modeling.backbone import TimmBackbone
from segic_d2.modeling.backbone.resample import pad_to_cells, resample_cells, whole_cells


def centres(cells, stride):
    return (torch.arange(cells) + 0.5) * stride


@pytest.mark.parametrize("side", [14, 16, 100, 112, 224, 230])
@pytest.mark.parametrize("patch, stride", [(14, 16), (16, 16), (16, 8), (14, 32)])
def test_old_cells_cover_all_new_ones_and_no_more(side, patch, stride):
    padded = whole_cells(side, stride, patch)
    covered = -(-side // stride) * stride
    assert padded % patch == 0 and covered <= padded < covered + patch
    images = torch.ones(1, 3, side, 2 * side)
    out = pad_to_cells(images, stride, patch)
    assert out.shape == (1, 3, padded, whole_cells(2 * side, stride, patch))
    assert torch.equal(out[..., :side, : 2 * side], images) and out.sum() == images.sum()


@pytest.mark.parametrize("patch, stride", [(14, 16), (14, 32), (12, 16), (16, 8), (14, 8)])
@pytest.mark.parametrize("height, width", [(224, 320), (100, 230), (14, 50)])
def test_a_map_of_coordinates_holds_the_coordinates_of_the_new_centres(
    patch, stride, height, width
):
    rows, columns = (whole_cells(side, stride, patch) // patch for side in (height, width))
    y, x = centres(rows, patch), centres(columns, patch)
    old = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
    size = -(-height // stride), -(-width // stride)
    out = resample_cells(old, patch, stride, size)
    assert out.shape == (1, 2, *size)
    # at the border of the image half an old cell repeats
    y, x = centres(size[0], stride).clamp(min=y[0], max=y[-1]), centres(size[1], stride)
    x = x.clamp(min=patch / 2, max=(columns - 0.5) * patch)
    expected = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
    torch.testing.assert_close(out, expected, atol=1e-3, rtol=0)


class Coordinates(torch.nn.Module):
    """In place of a timm model: its map holds where each 14-px cell has its centre, and whether
    the pixels of it are of the image."""

    def forward_intermediates(self, x, **options):
        y = centres(x.shape[2] // 14, 14)[:, None].expand(-1, x.shape[3] // 14)
        x_ = centres(x.shape[3] // 14, 14).expand(x.shape[2] // 14, -1)
        share = torch.nn.functional.avg_pool2d(x, 14)[:, 0]
        return [torch.stack([torch.stack([y, x_, s]) for s in share])]


def test_a_backbone_of_another_stride_is_aligned_by_pixels():
    """A side that is a multiple of neither stride, in a batch that is padded or not."""
    backbone = TimmBackbone(name="vit_small_patch14_dinov2", depth=1, stride=16, canvas=112)
    backbone.model = Coordinates()
    image = torch.ones(1, 3, 100, 230)
    out = backbone(image)["feat"]
    assert out.shape == (1, 3, 7, 15)
    y, x = centres(7, 16)[:, None].expand(7, 15), centres(15, 16).expand(7, 15)
    torch.testing.assert_close(out[0, :2], torch.stack([y, x]), atol=1e-3, rtol=0)
    assert (out[0, 2, :5, :13] > 0.999).all() and (out[0, 2, 6] < 0.9).all()
    padded = torch.nn.functional.pad(image, (0, 10, 0, 12))  # as in a batch of Detectron2
    torch.testing.assert_close(backbone(padded)["feat"], out, atol=0, rtol=0)
