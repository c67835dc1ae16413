"""Maps of one stride on cells of another, so that FPN, RPN and ROI heads accept any ViT
(``MODEL.TIMM.STRIDE``).

Pixel x covers [x, x + 1), and cell i of stride s covers [i·s, (i + 1)·s). Cells of two strides are
aligned by these coordinates, not by the corners of the maps: a new cell reads the old map,
bilinearly, at its own centre (i + 0.5)·s. For that the old cells must cover all of the new ones.
So an input is padded, right and bottom, with zeros (the mean colour): to whole cells of the new
stride, as Detectron2 pads a batch, and on to whole cells of the old one.

Shapes: B images, H×W pixels, p the old stride, s the new one, C channels.
"""

from torch import Tensor
from torch.nn import functional as F


def whole_cells(side: int, stride: int, patch: int) -> int:
    """The least multiple of ``patch`` that covers all cells of ``stride`` that cover ``side``."""
    covered = -(-side // stride) * stride
    return -(-covered // patch) * patch


def pad_to_cells(images: Tensor, stride: int, patch: int) -> Tensor:
    """Normalised images (B, 3, H, W) with zeros at the right and bottom, see ``whole_cells``."""
    height, width = images.shape[-2:]
    right = whole_cells(width, stride, patch) - width
    return F.pad(images, (0, right, 0, whole_cells(height, stride, patch) - height))


def resample_cells(cells: Tensor, patch: int, stride: int, size: tuple[int, int]) -> Tensor:
    """A map (B, C, h, w) of stride p → (B, C, *size) of stride s, a power of two; h·p and w·p
    cover the new cells. At the image's border, half an old cell of it repeats."""
    # with a scale, torch reads at (i + 0.5)·s/p - 0.5, wherever the old map ends
    scaled = F.interpolate(cells, scale_factor=patch / stride, mode="bilinear")
    return scaled[..., : size[0], : size[1]]
