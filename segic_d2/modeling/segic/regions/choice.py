"""Which regions of a target are the entity: those of high mean, compared with the best one.

Shapes: N entities, n cells of the target, R regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .linkage import region_means

SOFTNESS = 0.08  # of the step from background to foreground, in units of the cells' values
SMALLEST = 3  # cells of a region that others are compared with


def best_region(means: Tensor, count: Tensor) -> Tensor:
    """The highest of values (N, R) of regions of at least ``SMALLEST`` cells, ``count`` (R,), or of
    any where all are smaller: (N,)."""
    large = count >= SMALLEST
    return (means.masked_fill(~large, -torch.inf) if large.any() else means).amax(1)


def choose_regions(values: Tensor, labels: Tensor, relative: float, threshold: float) -> Tensor:
    """Logits (N, n) of the cells.

    A region's value is its cells' mean, less ``relative`` times that of the best region; it is
    foreground above ``threshold``.

    Args:
        values: float (N, n), how much the cells are like each entity. labels: int64 (n,).
    """
    means, count = region_means(values, labels)
    logits = (means - relative * best_region(means, count)[:, None] - threshold) / SOFTNESS
    return logits[:, labels.to(values.device)]
