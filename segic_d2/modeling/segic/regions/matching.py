"""How much each cell of a target is like an entity, by what its references' cells say.

Shapes: M entities of one target, L reference cells of an entity, n cells of the target, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ...layers.precision import without_autocast
from .cells import BACKGROUND, FOREGROUND

TEMPERATURE = 0.06  # of the softmax over reference cells
AT_ONCE = 2**23  # cosines of target cells with reference cells that are held at once


@dataclass(frozen=True)
class Cues:
    """What counts in ``match``, ``MODEL.SEGIC.REGIONS``.

    Attributes:
        prototype: prototype × propagation counts.
        nearest: how many of the most similar cells speak for the foreground and for the background;
            0: none do.
        background: weight of those that speak for the background.
        compete: where an entity's foreground is more alike, it is the others' background.
    """

    prototype: bool = True
    nearest: int = 20
    background: float = 0.5
    compete: bool = True


@dataclass
class Known:
    """What M entities are known by, of all their shots: mean unit features under the masks, float
    (M, C), and reference cells: unit features (M, L, C), of any precision, how many cells each
    stands for (M, L), and the mask's share in these (M, L)."""

    prototypes: Tensor
    cells: Tensor
    counts: Tensor
    shares: Tensor


def nearest_mean(cosines: Tensor, counts: Tensor, nearest: int) -> Tensor:
    """Mean of the ``nearest`` highest of cosines (M, n, L), each of which stands for ``counts`` (M,
    L) cells: (M, n). Of fewer cells in all, the mean of these; 0 where there are none."""
    values, order = cosines.sort(dim=2, descending=True)
    counts = counts[:, None].expand_as(values).gather(2, order)
    before = counts.cumsum(2) - counts
    taken = torch.minimum((nearest - before).clamp(min=0), counts)
    return (values * taken).sum(2) / taken.sum(2).clamp(min=1)


def propagate(cosines: Tensor, counts: Tensor, shares: Tensor) -> Tensor:
    """The share of the mask that the target's cells take over from reference cells: (M, n), the
    mean of ``shares`` (M, L) by a softmax of cosines (M, n, L), each of which stands for ``counts``
    (M, L) cells."""
    weights = (cosines / TEMPERATURE + counts.log()[:, None]).softmax(2)  # log 0: no weight
    return (weights * shares[:, None]).sum(2)


@without_autocast
def match(target: Tensor, known: Known, cues: Cues) -> Tensor:
    """How much the cells of a target, float (n, C) unit features, are like M entities: float32 (M,
    n), about 0.1 to 0.5 for the thing itself."""
    (count, cells, _), size = known.cells.shape, len(target)
    like, front, back = (target.new_zeros(count, size) for _ in range(3))
    step = max(1, min(size, AT_ONCE // max(1, cells)))
    at_once = max(1, AT_ONCE // (step * max(1, cells)))
    for first, start in product(range(0, count, at_once), range(0, size, step)):
        rows, part = slice(first, first + at_once), slice(start, start + step)
        own, counts, shares = target[part], known.counts[rows], known.shares[rows]
        cosines = own @ known.cells[rows].to(own.dtype).transpose(1, 2)  # (≤ M, ≤ n, L)
        if cues.prototype:
            shown = (known.prototypes[rows] @ own.T).clamp(min=0)
            like[rows, part] = shown * propagate(cosines, counts, shares)
        if cues.nearest:
            ahead, behind = counts * (shares > FOREGROUND), counts * (shares < BACKGROUND)
            front[rows, part] = nearest_mean(cosines, ahead, cues.nearest)
            back[rows, part] = nearest_mean(cosines, behind, cues.nearest)
    if cues.compete and count > 1:
        back = back.maximum(_best_other(front))
    return like + front - cues.background * back


def _best_other(values: Tensor) -> Tensor:
    """The highest of the other rows of (M, n), M ≥ 2, in each column: (M, n)."""
    best, second = values.topk(2, dim=0).values
    return torch.where(values == best, second, best)
