"""What speaks for and against each region of a target, as channels that a small network can weigh.

No channel is a feature of the backbone: all are similarities, shares and places, so that what is
learned of them on one kind of pictures has a meaning on others.

Shapes: N entities, M shots, k cells of a shot, n = h·w cells of the target, R fine regions of it, C
channels of features, E of a cell's evidence, F of a region's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...layers.precision import without_autocast
from .cells import parts
from .choice import best_region, best_rows
from .linkage import region_means
from .matching import AT_ONCE, NEAREST, Known, best_other, distinct, nearest_mean, propagate

CELL = (  # channels of a cell
    "alike",  # cosine to the prototype, of cut or whole picture
    "propagated",
    "near",  # mean of the nearest foreground cells
    "behind",  # of the nearest background cells, or of another entity's foreground
    "nearest",  # the nearest foreground cell
    "hardest",  # the nearest background cell
    "value",  # what regions are chosen by without training
    "chance",  # the decoder's probability
    "taken",  # how much of the reference's foreground looks here
    "left",  # how much of its background does
)
REFERENCE = (  # of a reference
    "area",  # log of the mask's share
    "own",  # how near its foreground in the whole picture is to that in the cut
    "own_behind",  # and to its background
    "mistaken",  # how near its background is to its foreground, the mean
    "most_mistaken",  # and the nearest
    "compact",  # length of the prototype
)
PLACE = 8  # channels of a region's place and form
ALIKE = 4  # of its likeness to others
TOKEN = 3 * len(CELL) + 1 + PLACE + ALIKE + 3 + len(REFERENCE)  # F
NEUTRAL = 1 / 3  # of the decoder that is not asked
SHARP = 0.03  # temperature of reference cells that look for their like in the target
SOFTNESS = 0.08  # units of values that are one of a logit, see ``choice``


@dataclass
class Evidence:
    """Of one target: ``cells`` float (N, n, E), ``references`` float (N, 6), regions of the coarse
    and the fine cut int64 (2, n), each fine one within a coarse one, cosines ``alike`` (R, R) of
    the fine ones and how compact each is, (R,), the content's (h, w) in cells, which entities
    are ``small`` things, bool (N,), and the logits (N, n) of the untrained choice, ``base``."""

    cells: Tensor
    references: Tensor
    labels: Tensor
    alike: Tensor
    compact: Tensor
    size: tuple[int, int]
    small: Tensor
    base: Tensor


@dataclass
class Told:
    """What the untrained choice says: ``values`` and ``logits`` (N, n), the decoder's probabilities
    ``chance`` (N, n) or None, which entities are ``small`` things, bool (N,), and what the shots
    have ``said`` to matching, see ``Matched``; None: it is found here."""

    values: Tensor
    chance: Tensor | None
    logits: Tensor
    small: Tensor
    said: Tensor | None = None


@without_autocast
def gather(
    own: Tensor,
    plain: Tensor,
    known: Known,
    areas: Tensor,
    told: Told,
    labels: Tensor,
    size: tuple[int, int],
) -> Evidence:
    """The evidence of a target's cells ``own`` (n, C), unit features, ``plain`` those not
    whitened, by its regions, see ``Evidence``; ``areas`` (M,): the masks' shares of their
    pictures."""
    fine = labels[1].to(own.device)
    maps = known.mean(_shots(own, known, told.said).flatten(1)).unflatten(1, (len(own), -1))
    maps[..., 8:] = maps[..., 8:].log1p()
    if known.count > 1:
        maps[..., 3] = maps[..., 3].maximum(best_other(maps[..., 2]))
    maps[..., 6] = told.values
    maps[..., 7] = NEUTRAL if told.chance is None else told.chance
    means = region_means(plain.T, fine)[0].T
    units = F.normalize(means, dim=1)
    shares = areas.clamp(min=1e-4).log()[:, None]
    own_words = known.mean(torch.cat([shares, _selves(known)], 1))
    alike, compact = units @ units.T, means.norm(dim=1)
    shown = maps, own_words, labels.to(own.device), alike, compact
    return Evidence(*shown, size, told.small, told.logits)


def _shots(own: Tensor, known: Known, said: Tensor | None = None) -> Tensor:
    """What each of M shots says of each cell, (M, n, E); not of values and decoder."""
    (rows, cells, _), size = known.cells.shape, len(own)
    found = own.new_zeros(rows, size, len(CELL))
    at_once = max(1, AT_ONCE // (size * cells))
    for first in range(0, rows, at_once):
        some = slice(first, first + at_once)
        counts, there = known.counts[some], known.counts[some] > 0
        flat = known.cells[some].flatten(0, 1)
        each = torch.arange(len(flat), device=flat.device)
        kinds, kind = (flat.device.type == "cpu" and distinct(flat)) or (each, each)
        alike = own @ flat[kinds].to(own.dtype).T  # (n, d): equal cells are compared once
        kind = kind.unflatten(0, counts.shape)
        cosines = alike[:, kind].transpose(0, 1)  # (≤ M, n, k)
        cut, whole, behind = parts(cells)
        front = slice(0, behind.start)
        closest = [
            cosines[..., p].masked_fill(~there[:, None, p], -1).amax(2) for p in (front, behind)
        ]
        looks = (alike / SHARP).softmax(0) * size  # of each reference cell over the target's
        shot = torch.arange(len(counts), device=kind.device)[:, None]
        seen = []
        for p in (front, behind):
            held = looks.new_zeros(looks.shape[1], len(counts))
            held.index_put_((kind[:, p], shot), counts[:, p].to(held.dtype), accumulate=True)
            seen.append((looks @ held / held.sum(0).clamp(min=1)).T)
        if said is None:
            units, shares = F.normalize(known.prototypes[some], dim=2), known.shares[some]
            near = [nearest_mean(cosines[..., p], counts[:, p], NEAREST) for p in (cut, whole)]
            most = nearest_mean(cosines[..., behind], counts[:, behind], NEAREST)
            own_words = (units @ own.T).amax(1), propagate(cosines, counts, shares)
            first_words = torch.stack([*own_words, near[0].maximum(near[1]), most], 2)
        else:
            first_words = said[some]
        nothing = torch.zeros_like(seen[0])
        rest = torch.stack([*closest, nothing, nothing, *seen], 2)
        found[some] = torch.cat([first_words, rest], 2)
    return found


def _selves(known: Known) -> Tensor:
    """What M references say of themselves, (M, 5)."""
    cells, counts = known.cells.float(), known.counts
    cut, whole, behind = parts(cells.shape[1])

    def mean(values: Tensor, part: slice) -> Tensor:
        return (values * counts[:, part]).sum(1) / counts[:, part].sum(1).clamp(min=1)

    def near(from_: slice, to: slice) -> Tensor:
        cosines = cells[:, from_] @ cells[:, to].transpose(1, 2)
        return nearest_mean(cosines, counts[:, to], NEAREST)

    mistaken = near(behind, cut)
    return torch.stack(
        [
            mean(near(whole, cut), whole),
            mean(near(whole, behind), whole),
            mean(mistaken, behind),
            mistaken.masked_fill(counts[:, behind] == 0, 0).amax(1),
            known.prototypes[:, 0].norm(dim=1),
        ],
        1,
    )


def region_tokens(x: Evidence) -> Tensor:
    """The channels (N, R, F) of the fine regions."""
    entities, cells = len(x.cells), x.cells.shape[1]
    coarse, fine = x.labels
    channels = x.cells.transpose(1, 2).flatten(0, 1)  # (N·E, n)
    (small, count), (large, counts) = region_means(channels, fine), region_means(channels, coarse)
    parent = coarse.new_zeros(len(count)).scatter_(0, fine, coarse)  # (R,)
    small, large = (m.unflatten(0, (entities, -1)).transpose(1, 2) for m in (small, large))
    values = large[..., 6]  # of the coarse regions
    row = best_rows(values, counts)
    leader = large.gather(1, row[:, None, None].expand(-1, 1, large.shape[2]))  # (N, 1, E)
    highest = x.cells.new_full((entities, len(count)), -torch.inf).scatter_reduce_(
        1, fine.expand(entities, -1), x.cells[..., 6], "amax"
    )
    place = _places(fine, count, counts[parent], x.size, cells)
    by_fine = best_region(small[..., 6], count)[:, None]
    levels = torch.stack(
        [
            (small[..., 6] - 0.3 * by_fine) / SOFTNESS,
            (values[:, parent] - 0.3 * best_region(values, counts)[:, None]) / SOFTNESS,
            x.small[:, None].expand(-1, len(count)).to(x.cells.dtype),
        ],
        2,
    )
    shared = [place.expand(entities, -1, -1), _likeness(x, small, parent, row)]
    told = x.references[:, None].expand(-1, len(count), -1)
    parents = large[:, parent]
    return torch.cat(
        [small, parents, small - leader, highest[..., None], *shared, levels / 6, told], 2
    )


def _places(fine: Tensor, count: Tensor, above: Tensor, size: tuple[int, int], n: int) -> Tensor:
    """Size, place and form of the R fine regions, (R, 8)."""
    height, width = size
    rows = torch.arange(height, device=fine.device).repeat_interleave(width)
    columns = torch.arange(width, device=fine.device).repeat(height)
    edge = (rows == 0) | (rows == height - 1) | (columns == 0) | (columns == width - 1)
    yx = torch.stack([(rows + 0.5) / height, (columns + 0.5) / width, edge.to(count.dtype)])
    (y, x, border), _ = region_means(yx, fine)
    spread = region_means((yx[:2] - torch.stack([y, x])[:, fine]) ** 2, fine)[0].sqrt()
    share = (count / n).log() / 4
    return torch.stack(
        [share, (above / n).log() / 4, y - 0.5, (x - 0.5).abs(), border, *spread, count / above], 1
    )


def _likeness(x: Evidence, means: Tensor, parent: Tensor, row: Tensor) -> Tensor:
    """Likeness of the R fine regions to the best fine one and to the best coarse one, to the most
    alike other one, and how compact each is, (N, R, 4)."""
    best = means[..., 6].argmax(1)
    inside = (parent == row[:, None]).to(x.alike.dtype)  # (N, R)
    to_leader = inside @ x.alike / inside.sum(1, keepdim=True).clamp(min=1)
    other = x.alike - 2 * torch.eye(len(x.alike), device=x.alike.device)
    alone = torch.stack([other.amax(1).clamp(min=-1), x.compact], 1).expand(len(row), -1, -1)
    return torch.cat([torch.stack([x.alike[best], to_leader], 2), alone], 2)
