"""The losses of a learned choice among regions.

Shapes: B examples (an entity and a target each), P parts of a target: its regions, or its cells.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

BINS = 4  # of a batch's examples by the size of the thing, whose masks are pooled
LEAST = 4.0  # cells that a thing counts for, at least
FLOOR = 0.02  # share of the picture that is added to the thing's size
MOST = 8.0  # the loss of the choice of one example, at most


def choice_losses(logits: Tensor, share: Tensor, count: Tensor) -> dict[str, Tensor]:
    """{"loss_dice", "loss_choice"} of logits (B, P) of parts of ``count`` (B, P) cells, 0 for what
    is padding, of which ``share`` (B, P) is the object.

    Dice of one episode forgives an extra person, for it cannot exceed 1. Pooled over examples
    whose things have about the same size, each weighing the same, what is wrongly taken counts in
    full. The choice is the binary cross-entropy of the parts, which weigh by their size in units of
    the thing's.
    """
    chance, area, dice = logits.sigmoid(), (share * count).sum(1), []
    for rows in area.argsort().chunk(BINS):
        taken, there = (x[rows] * count[rows] for x in (chance, share))
        size = there.sum(1, keepdim=True).clamp(min=LEAST)
        both, all_ = taken * share[rows] / size, (taken + there) / size
        dice.append(1 - 2 * both.sum() / all_.sum().clamp(min=1e-6))
    weight = count / (area + FLOOR * count.sum(1))[:, None]
    wrong = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
    choice = (wrong * weight).sum(1).clamp(max=MOST)
    return {"loss_dice": torch.stack(dice).mean(), "loss_choice": choice.mean()}
