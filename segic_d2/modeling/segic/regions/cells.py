"""Reference cells: few cells that stand for all of a reference's foreground and background.

The thing is seen twice, in the cut and in the whole picture, where it has the size that it may have
in a target; the background is that of the whole picture. Of each of these three a number of cells
is chosen by coverage (greedy k-centre: always the cell that is least like those chosen). Every cell
counts for the chosen one that it is most like, so that a context stays small and knows how common
each look was.

Shapes: C channels, n cells of a picture, k chosen ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FOREGROUND, BACKGROUND = 0.5, 0.1  # of a cell's share: more is foreground, less background
MOST_BYTES = 400_000  # of one shot's cells


@dataclass
class Cells:
    """Chosen cells: unit features half (k, C), how many cells each stands for (k,), and the mean
    share of the mask in these (k,); rows beyond the chosen ones count 0. ``parts`` says where they
    come from."""

    features: Tensor
    counts: Tensor
    shares: Tensor


def parts(count: int) -> tuple[slice, slice, slice]:
    """Which of k chosen cells are foreground of the cut, a third of them, foreground of the whole
    picture, a sixth, and background."""
    first, second = count // 3, count // 2
    return slice(0, first), slice(first, second), slice(second, count)


def most_cells(wanted: int, channels: int) -> int:
    """How many of the wanted cells a shot may keep in half precision, a multiple of 6."""
    bound = MOST_BYTES // (2 * channels + 8)
    return max(6, min(wanted, bound) // 6 * 6)


def choose_cells(
    cut: Tensor,
    cut_shares: Tensor,
    whole: Tensor,
    whole_shares: Tensor,
    count: int,
    unmarked: Tensor | None = None,
) -> Cells:
    """The cells of one entity in one reference.

    Args:
        cut, whole: float (n, C), unit features of the cut's and the whole picture's cells.
        cut_shares, whole_shares: float (n,), share of the mask in each.
        count: k, a multiple of 6.
        unmarked: bool (n,), cells of the whole picture that are no background, see ``unmarked.py``.
    """
    behind = whole_shares < BACKGROUND
    if unmarked is not None:
        behind &= ~unmarked
    views = (
        (cut, cut_shares, front(cut_shares)),
        (whole, whole_shares, front(whole_shares)),
        (whole, whole_shares, behind),
    )
    chosen = [
        _covering(units[inside], shares[inside], part.stop - part.start)
        for (units, shares, inside), part in zip(views, parts(count), strict=True)
    ]
    features, counts, shares = (torch.cat(x) for x in zip(*chosen, strict=True))
    return Cells(features.half(), counts, shares)


def front(shares: Tensor) -> Tensor:
    """Which cells are mostly object; where none is, those with the highest share."""
    front = shares > FOREGROUND
    return front if front.any() else shares >= shares.max()


def _covering(units: Tensor, shares: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Chosen cells (count, C), what they stand for and their shares, (count,) each."""
    rows = cover(units, count)
    nearest = (units @ units[rows].T).argmax(1) if len(rows) else rows
    counts = torch.bincount(nearest, minlength=count).to(units.dtype)
    total = torch.zeros_like(counts).index_add_(0, nearest, shares.to(units.dtype))
    chosen = units.new_zeros(count, units.shape[1])
    chosen[: len(rows)] = units[rows]
    return chosen, counts, total / counts.clamp(min=1)


def cover(units: Tensor, count: int) -> Tensor:
    """Greedy k-centre: int64, rows of up to ``count`` of the unit features (n, C). The first is
    the most typical, the one that is most like the mean; then always the one whose nearest chosen
    one is least like it."""
    if len(units) <= count:
        return torch.arange(len(units), device=units.device)
    row = (units @ units.mean(0)).argmax()
    chosen, nearest = [row], units @ units[row]
    while len(chosen) < count:
        row = nearest.argmin()
        chosen.append(row)
        nearest = torch.maximum(nearest, units @ units[row])
    return torch.stack(chosen)
