"""How much each cell of a target is like an entity, by what its references' cells say.

Shapes: M entities of one target, L reference cells of an entity, n cells of the target, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """Mean of the ``nearest`` highest of cosines (n, L), each of which stands for ``counts`` (L,)
    cells: (n,). Of fewer cells in all, the mean of these; 0 where there are none."""
    values, order = cosines.sort(dim=1, descending=True)
    counts = counts.to(values.dtype)[order]
    before = counts.cumsum(1) - counts
    taken = torch.minimum((nearest - before).clamp(min=0), counts)
    return (values * taken).sum(1) / taken.sum(1).clamp(min=1)


def propagate(cosines: Tensor, counts: Tensor, shares: Tensor) -> Tensor:
    """The share of the mask that the target's cells take over from reference cells: the mean of
    ``shares`` (L,) by a softmax of cosines (n, L), each of which stands for ``counts`` cells."""
    weights = (cosines / TEMPERATURE + counts.log()).softmax(1)  # log 0: no cell, no weight
    return weights @ shares


@without_autocast
def match(target: Tensor, known: Known, cues: Cues) -> Tensor:
    """How much the cells of a target, float (n, C) unit features, are like M entities: float32 (M,
    n), about 0.1 to 0.5 for the thing itself."""
    count, cells = len(known.cells), len(target)
    like, front, back = (target.new_zeros(count, cells) for _ in range(3))
    step = max(1, AT_ONCE // max(1, known.cells.shape[1]))
    for start in range(0, cells, step):
        part = slice(start, start + step)
        own = target[part]
        for row in range(count):
            counts, shares = known.counts[row], known.shares[row]
            cosines = own @ known.cells[row].to(own.dtype).T  # (≤ step, L)
            if cues.prototype:
                shown = (own @ known.prototypes[row]).clamp(min=0)
                like[row, part] = shown * propagate(cosines, counts, shares)
            if cues.nearest:
                ahead, behind = counts * (shares > FOREGROUND), counts * (shares < BACKGROUND)
                front[row, part] = nearest_mean(cosines, ahead, cues.nearest)
                back[row, part] = nearest_mean(cosines, behind, cues.nearest)
    if cues.compete and count > 1:
        back = back.maximum(_best_other(front))
    return like + front - cues.background * back


def _best_other(values: Tensor) -> Tensor:
    """The highest of the other rows of (M, n), M ≥ 2, in each column: (M, n)."""
    best, second = values.topk(2, dim=0).values
    return torch.where(values == best, second, best)
