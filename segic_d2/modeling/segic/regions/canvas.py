"""Between maps over the canvas and the cells of its content.

Shapes: N maps, r side of a map, g grid side (cells), h×w cells of the content, n = h·w.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SUREST = 6.0  # the highest logit, and the lowest with a minus


def in_cells(maps: Tensor, grid: int, size: tuple[int, int]) -> Tensor:
    """Means of maps (N, r, r) over the canvas in the cells of the content, ``size``: (N, n)."""
    height, width = size
    return F.adaptive_avg_pool2d(maps, grid)[:, :height, :width].flatten(1)


def on_canvas(logits: Tensor, grid: int) -> Tensor:
    """Logits of the content's cells (N, h, w) at four positions a cell and side, between −6 and 6:
    (N, 4g, 4g); beyond the content, what is nearest in it."""
    height, width = (4 * n for n in logits.shape[1:])
    fine = F.interpolate(logits[:, None], (height, width), mode="bilinear", align_corners=False)
    beyond = (0, 4 * grid - width, 0, 4 * grid - height)
    return F.pad(fine, beyond, mode="replicate")[:, 0].clamp(-SUREST, SUREST)
