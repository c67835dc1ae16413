"""Masks at another size by area averaging, so that small objects survive."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor


def soft_resize(masks: np.ndarray | Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks (N, H, W), bool or float in [0, 1], by area averaging: float32 (N, h, w) in [0,
    1]. Every pixel keeps a share, so no object vanishes."""
    masks = torch.as_tensor(masks).to(torch.float32)
    if len(masks) == 0:
        return masks.new_zeros((0, *size))
    return F.interpolate(masks[:, None], size=tuple(size), mode="area")[:, 0]


def soft_resize_binary(
    mask: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """``soft_resize`` of one bool mask (H, W), to the bit, and only where something is to be seen.

    The averages of a binary mask are counts of pixels, which differences of running sums give
    exactly; beyond the object's box they are 0. ``window``: (y, x, height, width), the part of the
    result, float32 (height, width), that is wanted; None: all.
    """
    y, x, height, width = window or (0, 0, *size)
    result = np.zeros((height, width), np.float32)
    rows, columns = extent(mask.any(1)), extent(mask.any(0))
    if rows is None or columns is None:
        return result
    top, bottom, tall = _bins(mask.shape[0], size[0], y, height)
    left, right, wide = _bins(mask.shape[1], size[1], x, width)
    across, down = _touching(left, right, columns), _touching(top, bottom, rows)
    part = mask[rows[0] : rows[1], columns[0] : columns[1]]

    def between(
        sums: np.ndarray, axis: int, start: np.ndarray, stop: np.ndarray, origin: int
    ) -> np.ndarray:
        limit = sums.shape[axis] - 1
        stop = np.clip(stop - origin, 0, limit)
        return sums.take(stop, axis) - sums.take(np.clip(start - origin, 0, limit), axis)

    sums = np.zeros((part.shape[0] + 1, part.shape[1]), np.int32)
    np.cumsum(part, axis=0, out=sums[1:])
    counts = between(sums, 0, top[down], bottom[down], rows[0])
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1), np.int32)
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    counts = between(sums, 1, left[across], right[across], columns[0]).astype(np.float32)
    counts /= tall[down, None]  # one side after the other, as torch divides
    counts /= wide[across]
    result[down, across] = counts
    return result


def extent(occupied: npt.ArrayLike) -> tuple[int, int] | None:
    """First and behind the last True of a bool array, or None."""
    found = np.flatnonzero(occupied)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else None


def _bins(old: int, new: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of ``old`` pixels those from ``start`` of ``new`` average: first, end, float32
    number."""
    i = np.arange(start, start + count, dtype=np.int64)
    first, behind = i * old // new, -((-(i + 1) * old) // new)
    return first, behind, (behind - first).astype(np.float32)


def _touching(first: np.ndarray, behind: np.ndarray, extent: tuple[int, int]) -> slice:
    """The slice of bins that meet the half-open range ``extent``."""
    start = int(np.searchsorted(behind, extent[0], side="right"))
    return slice(start, max(int(np.searchsorted(first, extent[1], side="left")), start))
