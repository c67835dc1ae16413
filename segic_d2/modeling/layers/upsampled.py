"""Cosines with bilinearly upsampled features, without upsampling them: the released similarity.

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells), n vectors.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def similarity_of_upsampled(features: Tensor, dots: Tensor, size: int, eps: float = 1e-8) -> Tensor:
    """Cosines (B, n, size, size) of upsampled features (B, C, g, g) with n unit vectors.

    cos(up(f), v) = up(<f, v>) / ‖up(f)‖: the numerator interpolates exactly, and the norm (at least
    ``eps``) is one map per image. ``dots`` (B, n, g, g) are the <f, v>; ``size`` as released: S/4.
    """
    border = int(size / (2 * dots.shape[-1]) + 0.5)  # samples beyond the outermost centres
    dots = F.interpolate(dots, size=(size, size), mode="bilinear", align_corners=False)
    # there all are equal; to the bit, so that an arg-max finds the first of them, not the rounding
    for side in (dots, dots.transpose(-1, -2)) if border else ():
        side[..., :border] = side[..., border - 1, None]
        side[..., size - border :] = side[..., size - border, None]
    return dots / upsampled_norm(features, size).clamp(min=eps)[:, None]


def upsampled_norm(features: Tensor, size: int, chunk: int = 64) -> Tensor:
    """Norm of bilinearly upsampled features, (B, size, size), from the g×g grid alone.

    Each upsampled vector is a weighted sum of the four cells around it, so its squared norm is a
    quadratic form of their ten inner products. ``chunk`` channels are multiplied at a time, to
    stay in the cache.
    """
    height, width = features.shape[-2:]
    gram: list[Any] = [0.0] * 5
    for part in features.split(chunk, dim=1):
        f = F.pad(part, (0, 1, 0, 1), mode="replicate")  # the last row and column repeat
        here, right, down, across = (
            f[..., y : y + height, x : x + width] for y, x in ((0, 0), (0, 1), (1, 0), (1, 1))
        )
        pairs = ((here, here), (here, right), (here, down), (here, across), (right, down))
        gram = [total + (a * b).sum(1) for total, (a, b) in zip(gram, pairs, strict=True)]
    y0, y1, ly = _neighbours(height, size, features)
    x0, x1, lx = _neighbours(width, size, features)
    ly, ky, lx, kx = ly[:, None], 1 - ly[:, None], lx, 1 - lx

    own, beside, below, diagonal, anti = gram

    def at(products: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return products[:, rows][:, :, columns]  # (B, size, size)

    squared = ky**2 * (kx**2 * at(own, y0, x0) + lx**2 * at(own, y0, x1))
    squared += ly**2 * (kx**2 * at(own, y1, x0) + lx**2 * at(own, y1, x1))
    squared += 2 * kx * lx * (ky**2 * at(beside, y0, x0) + ly**2 * at(beside, y1, x0))
    squared += 2 * ky * ly * (kx**2 * at(below, y0, x0) + lx**2 * at(below, y0, x1))
    squared += 2 * kx * lx * ky * ly * (at(diagonal, y0, x0) + at(anti, y0, x0))
    return squared.clamp(min=0).sqrt()


def _neighbours(cells: int, size: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The two cells around each of ``size`` bilinear samples, and the weight of the second."""
    centre = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * (cells / size) - 0.5
    centre = centre.clamp(min=0, max=cells - 1)  # equal beyond the outermost centres, to the bit
    first = centre.floor().long().clamp(max=cells - 1)
    return first, (first + 1).clamp(max=cells - 1), centre - first
