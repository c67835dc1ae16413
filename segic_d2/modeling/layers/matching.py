"""Nearest neighbours between two images: where a point of the source lies in the target.

What a frozen backbone's features know of correspondence, without any trained part.

Shape shorthand: C feature channels, S canvas side (px), g grid side (cells), k points.
"""

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ...structures.frame import valid_cells

Size: TypeAlias = tuple[int, int]  # height, width in px


def to_canvas_px(xy: Tensor, own_size: Size, image_size: Size) -> Tensor:
    """Pixel coordinates (k, 2) in an image of size (H, W) → in its resized content of (h, w); pixel
    centres are integers, so that (−½, −½) is the corner of both."""
    new, old = (xy.new_tensor(size[::-1]) for size in (image_size, own_size))
    return (xy + 0.5) * new / old - 0.5


def from_canvas_px(xy: Tensor, own_size: Size, image_size: Size) -> Tensor:
    """The inverse of ``to_canvas_px``."""
    return to_canvas_px(xy, image_size, own_size)


def sample_features(features: Tensor, xy: Tensor, image_size: Size, canvas: int) -> Tensor:
    """Features (k, C) of a map (C, g, g) at points (k, 2), px on the canvas of side S.

    Bilinear between the centres of the cells. Beyond those of the last cells of the content (h, w)
    the features are those of the last cells, so that padding never counts.
    """
    side = features.shape[-1]
    valid = valid_cells([image_size], side, canvas)[0]
    last = xy.new_tensor([valid.any(0).sum() - 1, valid.any(1).sum() - 1])
    cell = torch.minimum(((xy + 0.5) * (side / canvas) - 0.5).clamp(min=0), last)
    grid = ((2 * cell + 1) / side - 1).to(features.dtype)
    return F.grid_sample(features[None], grid[None, None], align_corners=False)[0, :, 0].T


def nearest_points(
    source: Tensor,
    target: Tensor,
    xy: Tensor,
    sizes: tuple[Size, Size],
    own_sizes: tuple[Size, Size],
    canvas: int,
    eps: float = 1e-8,
) -> Tensor:
    """The cell of the target that is most similar (cosine) to each point of the source.

    Points (k, 2), px in the source's own file → centres of those cells, (k, 2), px of the target's;
    of equal cells the first. Cells whose centre lies in the padding are never chosen. ``sizes`` are
    of the contents of the two canvases, ``own_sizes`` of the two files.
    """
    on_canvas = to_canvas_px(xy, own_sizes[0], sizes[0])
    wanted = F.normalize(sample_features(source, on_canvas, sizes[0], canvas), dim=1, eps=eps)
    cosines = wanted @ F.normalize(target.flatten(1), dim=0, eps=eps)  # (k, g·g)
    side = target.shape[-1]
    valid = valid_cells([sizes[1]], side, canvas, target.device)[0].flatten()
    best = cosines.masked_fill(~valid, -torch.inf).argmax(1)
    cells = torch.stack([best % side, best // side], 1).to(xy.dtype)
    return from_canvas_px((cells + 0.5) * (canvas / side) - 0.5, own_sizes[1], sizes[1])
