"""What is made of bilinearly upsampled maps, without upsampling them: cosines, the released
similarity, and convolutions.

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells), n vectors.
"""

from typing import Any

import torch
from torch import Tensor, nn
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


def convolve_upsampled(maps: Tensor, conv: nn.Conv2d, size: int) -> Tensor:
    """A convolution, whose stride is its kernel k, of maps (M, n, g, g) upsampled to (M, n, size,
    size): (M, C, size/k, size/k). k must divide size/g. Every patch sees a cell and its neighbours
    alone, so that it is a 3×3 convolution of the cells."""
    cells, side = maps.shape[-1], conv.stride[0]
    scale, rest = divmod(size, cells)
    if rest or scale % side or conv.kernel_size != (side, side):
        raise ValueError(f"patches of {side} px do not divide the {size} / {cells} px of a cell")
    at = (torch.arange(scale, device=maps.device, dtype=maps.dtype) + 0.5) / scale - 0.5
    share = torch.stack([(-at).clamp(min=0), 1 - at.abs(), at.clamp(min=0)], 1)  # of neighbours
    share = share.unflatten(0, (-1, side))  # (patches of a cell, k, 3)
    kernel = torch.einsum("cnab,yak,xbl->cyxnkl", conv.weight, share, share).flatten(0, 2)
    around = F.unfold(F.pad(maps, (1, 1, 1, 1), mode="replicate"), 3)  # (M, 9n, g²)
    found = (kernel.flatten(1) @ around).unflatten(2, (cells, cells))  # Winograd's would be rougher
    found = F.pixel_shuffle(found, scale // side)
    return found if conv.bias is None else found + conv.bias[:, None, None]
