"""Nearest neighbours between two images: where a point of the source lies in the target.

What a frozen backbone's features know of correspondence, without any trained part.

Shape shorthand: C feature channels, S canvas side (px), g grid side (cells), k points.
"""

import torch
from torch.nn import functional as F

from ...structures.frame import valid_cells


def to_canvas_px(xy, own_size, image_size):
    """Pixel coordinates (k, 2) in an image of size (H, W) → in its resized content of (h, w).

    Pixel centres are integers, so that (−½, −½) is the corner of both.
    """
    return (xy + 0.5) * _scale(xy, image_size) / _scale(xy, own_size) - 0.5


def from_canvas_px(xy, own_size, image_size):
    """The inverse of ``to_canvas_px``."""
    return to_canvas_px(xy, image_size, own_size)


def _scale(xy, size):
    return xy.new_tensor([size[1], size[0]])


def sample_features(features, xy, image_size, canvas):
    """Features at points, bilinear between the centres of the cells.

    Args:
        features: float (C, g, g) of a canvas; xy: float (k, 2), px on the canvas.
        image_size: (h, w) of the content. Beyond the centres of its last cells the features are
            those of the last cells, so that padding never counts.
        canvas: S, in px.

    Returns:
        float (k, C).
    """
    side = features.shape[-1]
    valid = valid_cells([image_size], side, canvas)[0]
    last = xy.new_tensor([valid.any(0).sum() - 1, valid.any(1).sum() - 1])
    cell = (xy + 0.5) * (side / canvas) - 0.5
    cell = torch.minimum(cell.clamp(min=0), last)
    grid = ((2 * cell + 1) / side - 1).to(features.dtype)
    return F.grid_sample(features[None], grid[None, None], align_corners=False)[0, :, 0].T


def nearest_points(source, target, xy, sizes, own_sizes, canvas, eps=1e-8):
    """The cell of the target that is most similar (cosine) to each point of the source.

    Args:
        source, target: float (C, g, g), features of two canvases.
        xy: float (k, 2), px in the source's own file.
        sizes: ((h, w), (h, w)), contents of the two canvases.
        own_sizes: ((H, W), (H, W)) of the two files.
        canvas: S, in px.

    Returns:
        float (k, 2), centres of those cells in px of the target's own file; of equal cells the
        first. Cells whose centre lies in the padding are never chosen.
    """
    on_canvas = to_canvas_px(xy, own_sizes[0], sizes[0])
    wanted = F.normalize(sample_features(source, on_canvas, sizes[0], canvas), dim=1, eps=eps)
    cosines = wanted @ F.normalize(target.flatten(1), dim=0, eps=eps)  # (k, g·g)
    side = target.shape[-1]
    valid = valid_cells([sizes[1]], side, canvas, target.device)[0].flatten()
    best = cosines.masked_fill(~valid, -torch.inf).argmax(1)
    cells = torch.stack([best % side, best // side], 1).to(xy.dtype)
    return from_canvas_px((cells + 0.5) * (canvas / side) - 0.5, own_sizes[1], sizes[1])
