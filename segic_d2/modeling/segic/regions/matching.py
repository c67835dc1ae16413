"""How much each cell of a target is like an entity, by what its references' cells say.

Every shot says what it has to say; the mean over its shots is what an entity has to say: several
references average out what one of them shows by chance. Whether it is there, each shot tells by
itself: no cell is like all the references of a class of many looks, and the mean would take it for
absent.

Shapes: N entities of one target, M shots of all of them, k cells of a shot, n cells of the target,
C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ....structures.context import WEIGHT, Context
from ...layers.precision import without_autocast
from .cells import FOREGROUND, parts

TEMPERATURE = 0.06  # of the softmax over reference cells
DISTINCT = 0.7  # share of a context's cells up to which equal ones are looked for
HASH = 0x5851F42D4C957F2D  # odd, with bits all over
NEAREST = 20  # cells of which what ``Matched.said`` has is a mean
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
        backward: the mask is taken over from the nearest reference cell alone.
    """

    prototype: bool = True
    nearest: int = 20
    background: float = 0.8
    compete: bool = True
    backward: bool = False


@dataclass
class Known:
    """What N entities are known by: of M shots int64 (M,), whose they are, mean unit features under
    the masks in two views, cut and whole picture, float (M, 2, C), and the cells of
    ``cells.Cells``: unit features (M, k, C), of any precision, counts and shares (M, k). ``weight``
    (M,): of the shots in means; None: they are equal."""

    entity: Tensor
    count: int
    prototypes: Tensor
    cells: Tensor
    counts: Tensor
    shares: Tensor
    weight: Tensor | None = None

    def mean(self, values: Tensor) -> Tensor:
        """Means (N, n) over the shots of each entity, of values (M, n)."""
        if self.weight is not None:
            values = values * self.weight[:, None]
        total = values.new_zeros(self.count, values.shape[1]).index_add_(0, self.entity, values)
        shots = torch.bincount(self.entity, self.weight, minlength=self.count)
        return total / shots[:, None].clamp(min=1 if self.weight is None else 1e-8)


@dataclass
class Matched:
    """How much the n cells of a target are like N entities, float32 (N, n): ``values``, about 0.1
    to 0.5 for the thing itself, and, for whether it is there, ``cosines`` to the prototypes and
    ``nearest``, to the nearest foreground cells. ``shots``: the same of M shots, each by itself,
    which know their ``entity``, int64 (M,); None: of one shot each. ``said``: what each shot says
    of the cells, (M, n, 4): cosine to its prototype, propagated, nearest foreground and nearest
    background cells; None: not all of it was asked for."""

    values: Tensor
    cosines: Tensor
    nearest: Tensor
    shots: Matched | None = None
    entity: Tensor | None = None
    said: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Matched:
        """Those of some rows, int64 (P,), copied, without shots."""
        return Matched(self.values[rows], self.cosines[rows], self.nearest[rows])


def known(context: Context) -> Known:
    """The entities of a context by the shots that exist."""
    entity, shot = context.shots.nonzero(as_tuple=True)
    names = "cell_prototypes", "cells", "cell_counts", "cell_shares"
    found = Known(entity, len(context), *(context.tensors[name][entity, shot] for name in names))
    if WEIGHT in context.tensors:
        found.weight = context.tensors[WEIGHT][entity, shot]
    return found


def nearest_mean(cosines: Tensor, counts: Tensor, nearest: int) -> Tensor:
    """Mean of the ``nearest`` highest of cosines (M, n, L), each of which stands for ``counts`` (M,
    L) cells: (M, n). Of fewer cells in all, the mean of these; 0 where there are none."""
    most, none = min(nearest, cosines.shape[2]), counts == 0
    if none.device.type != "cpu" or none.any():  # elsewhere the host would wait to learn it
        cosines = cosines.masked_fill(none[:, None], -torch.inf)
    values, order = highest(cosines, most)
    held = counts[:, None].expand(-1, cosines.shape[1], -1).gather(2, order)
    before = held.cumsum(2) - held
    taken = torch.minimum((nearest - before).clamp(min=0), held)
    return (values.masked_fill(held == 0, 0) * taken).sum(2) / taken.sum(2).clamp(min=1)


def highest(values: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """``values.topk(most)``; on the CPU NumPy parts rows several times faster."""
    if values.device.type != "cpu" or values.dtype != torch.float32 or values.requires_grad:
        return values.topk(most)
    beyond = values.shape[-1] - most
    if not beyond:
        return values.sort(descending=True)
    found = torch.from_numpy(np.argpartition(values.numpy(), beyond)[..., beyond:])
    values, ranks = values.gather(-1, found).sort(descending=True)
    return values, found.gather(-1, ranks)


def highest_mean(cosines: Tensor, most: int) -> Tensor:
    """Mean of the ``most`` highest of cosines (n, k), or of all where there are fewer: (n,); 0
    where there are none."""
    most = min(most, cosines.shape[1])
    return cosines.topk(most, 1).values.mean(1) if most else cosines.new_zeros(len(cosines))


def propagate(cosines: Tensor, counts: Tensor, shares: Tensor) -> Tensor:
    """The share of the mask that the target's cells take over from reference cells: (M, n), the
    mean of ``shares`` (M, L) by a softmax of cosines (M, n, L), each of which stands for ``counts``
    (M, L) cells."""
    weights = (cosines / TEMPERATURE + counts.log()[:, None]).softmax(2)  # log 0: no weight
    return (weights * shares[:, None]).sum(2)


def match_backward(cosines: Tensor, counts: Tensor, shares: Tensor) -> Tensor:
    """Whether a target's nearest reference cell lies in the mask (Matcher, INSID3), 1 or 0: (M, n);
    arguments as of ``propagate``."""
    nearest = cosines.masked_fill(counts[:, None] == 0, -torch.inf).argmax(2)
    return (shares.gather(1, nearest) > FOREGROUND).to(cosines.dtype)


def cosines_to(cells: Tensor, target: Tensor) -> Tensor:
    """Cosines of reference cells (M, k, C) with a target's (n, C): (M, n, k). On the CPU cells that
    are equal are compared once: shots of one frame share most of their background."""
    some = distinct(cells.flatten(0, 1)) if cells.device.type == "cpu" and len(cells) > 1 else None
    if some is None:
        return target @ cells.to(target.dtype).transpose(1, 2)
    rows, place = some
    found = target @ cells.flatten(0, 1)[rows].to(target.dtype).T
    return found[:, place].unflatten(1, cells.shape[:2]).transpose(0, 1)


def distinct(cells: Tensor) -> tuple[Tensor, Tensor] | None:
    """Of half cells (m, C) one row of each kind, int64 (d,), and which of these each cell equals,
    int64 (m,); None where more than ``DISTINCT`` of them are."""
    if cells.dtype != torch.half or cells.shape[1] % 4 or not cells.numel():
        return None
    bits = cells.contiguous().view(torch.int64)
    factors = torch.arange(1, 2 * bits.shape[1], 2, dtype=torch.int64) * HASH
    values, place = torch.unique((bits * factors).sum(1), return_inverse=True)  # wraps around
    if len(values) > DISTINCT * len(cells):
        return None
    rows = torch.empty_like(values).scatter_(0, place, torch.arange(len(cells)))
    return (rows, place) if torch.equal(bits[rows][place], bits) else None  # unless hashes met


@without_autocast
def match(target: Tensor, known: Known, cues: Cues) -> Matched:
    """What the references say of a target's cells, float (n, C) unit features."""
    (rows, cells, _), size = known.cells.shape, len(target)
    alike, like, front, back, taken = (target.new_zeros(rows, size) for _ in range(5))
    step = max(1, min(size, AT_ONCE // cells))
    at_once = max(1, AT_ONCE // (step * cells))
    for first, start in product(range(0, rows, at_once), range(0, size, step)):
        some, part = slice(first, first + at_once), slice(start, start + step)
        own, counts = target[part], known.counts[some]
        shown = known.prototypes[some] @ own.T  # (≤ M, 2, ≤ n)
        lengths = known.prototypes[some].norm(dim=2, keepdim=True).clamp(min=1e-8)
        alike[some, part] = (shown / lengths).amax(1)
        cosines = cosines_to(known.cells[some], own)  # (≤ M, ≤ n, k)
        if cues.prototype:
            take = match_backward if cues.backward else propagate
            taken[some, part] = take(cosines, counts, known.shares[some])
            like[some, part] = shown.amax(1).clamp(min=0) * taken[some, part]
        if cues.nearest:
            near, far, other = (
                nearest_mean(cosines[..., p], counts[:, p], cues.nearest) for p in parts(cells)
            )
            front[some, part], back[some, part] = near.maximum(far), other
    each = alike, like, front, back
    alike, like, front, back = (known.mean(x) for x in each)
    others = torch.full_like(back, -torch.inf)
    if cues.compete and known.count > 1:
        others = best_other(front)
    found = Matched(like + front - cues.background * back.maximum(others), alike, front)
    if cues.prototype and not cues.backward and cues.nearest == NEAREST:
        found.said = torch.stack([each[0], taken, *each[2:]], 2)
    if rows > known.count:
        alike, like, front, back = each
        back = back.maximum(others[known.entity])
        values = like + front - cues.background * back
        found.shots = Matched(values, alike, front, entity=known.entity)
    return found


def best_other(values: Tensor) -> Tensor:
    """The highest of the other rows of (M, n), M ≥ 2, in each column: (M, n)."""
    best, second = values.topk(2, dim=0).values
    return torch.where(values == best, second, best)
