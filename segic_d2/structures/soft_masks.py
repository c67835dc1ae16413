"""Masks at another size by area averaging, so that small objects survive."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


def soft_resize(masks: np.ndarray | torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize masks by area averaging: every pixel keeps a share, so no object vanishes.

    Args:
        masks: (N, H, W), bool or float in [0, 1].
        size: (h, w) in pixels.

    Returns:
        float32 (N, h, w) in [0, 1].
    """
    masks = torch.as_tensor(masks).to(torch.float32)
    if len(masks) == 0:
        return masks.new_zeros((0, *size))
    return F.interpolate(masks[:, None], size=tuple(size), mode="area")[:, 0]


def soft_resize_binary(
    mask: np.ndarray, size: tuple[int, int], window: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """``soft_resize`` of one bool mask, to the bit, and only where something is to be seen.

    The averages of a binary mask are counts of pixels, which differences of running sums give
    exactly; beyond the object's box they are 0.

    Args:
        mask: bool (H, W).
        size: (h, w) in pixels.
        window: (y, x, height, width), the part of the result that is wanted; None: all.

    Returns:
        float32 (height, width) in [0, 1].
    """
    y, x, height, width = window or (0, 0, *size)
    result = np.zeros((height, width), np.float32)
    rows, columns = _extent(mask.any(1)), _extent(mask.any(0))
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


def _extent(occupied: npt.ArrayLike) -> tuple[int, int] | None:
    """First and behind the last True of a bool array, or None."""
    found = np.flatnonzero(occupied)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else None


def _bins(old: int, new: int, start: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which of ``old`` pixels the result's pixels start … start+count-1 of ``new`` average:
    first (count,), behind the last (count,), and how many as float32 (count,)."""
    i = np.arange(start, start + count, dtype=np.int64)
    first, behind = i * old // new, -((-(i + 1) * old) // new)
    return first, behind, (behind - first).astype(np.float32)


def _touching(first: np.ndarray, behind: np.ndarray, extent: tuple[int, int]) -> slice:
    """The slice of bins that meet the half-open range ``extent``."""
    start = int(np.searchsorted(behind, extent[0], side="right"))
    return slice(start, max(int(np.searchsorted(first, extent[1], side="left")), start))
