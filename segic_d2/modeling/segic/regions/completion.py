"""Which cells of a marked area are the thing: inside against outside, region by region.

A box says where a thing lies, not what it is. The cells around it are background for certain. What
of the inside is more like the rest of the inside than like the background, and what the decoder
takes for a thing, stays; and once more with what stayed (as GrabCut does with colours; Rother et
al., SIGGRAPH 2004).

Shapes: C channels, n cells of a view, m cells of other views.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .linkage import region_means
from .matching import highest_mean

STEPS = 4  # at most
NEAREST = 20  # cells that speak for the thing and for the background
INSIDE = 0.3  # of a region's cells that are open, at least: others reach out of the area
CHANCE = 0.5  # weight of the decoder's probability
LEAST = 0.05  # the value of a region of the thing, at least


def complete_area(
    units: Tensor,
    labels: Tensor,
    opened: Tensor,
    chance: Tensor | None,
    beyond: Tensor,
    marked: Tensor | None = None,
    alone: bool = False,
) -> Tensor:
    """The cells of the thing, bool (n,), some of those that are open; all of these where nothing
    would be left.

    Args:
        units: float (n, C), of length 1. labels: int64 (n,), regions. opened: bool (n,), where the
            thing may be. chance: float (n,), the decoder's probability; None: it is not asked.
            beyond: float (m, C), unit features of background in other views. marked: bool (n,),
            open cells that are the thing whatever the rest says; None: none. alone: begin with
            these, not with all that may be the thing.
    """
    labels = labels.to(units.device)
    share = region_means(opened[None].to(units.dtype), labels)[0][0]
    allowed = opened & (share >= INSIDE)[labels]
    taken = allowed if allowed.any() else opened
    sure = torch.zeros_like(opened) if marked is None else marked
    taken = sure if alone and sure.any() else taken | sure
    cosines = (units @ units.T).fill_diagonal_(-1.0)
    others = units @ beyond.T
    for _ in range(STEPS):
        value = highest_mean(cosines[:, taken], NEAREST) - highest_mean(
            torch.cat([cosines[:, ~taken], others], 1), NEAREST
        )
        if chance is not None:
            value = value + CHANCE * (chance - 0.5)
        found = allowed & (region_means(value[None], labels)[0][0] > LEAST)[labels] | sure
        if not found.any() or torch.equal(found, taken):
            break
        taken = found
    return taken
