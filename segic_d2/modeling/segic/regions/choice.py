"""Which regions of a target are the entity: those of high mean, compared with the best one.

Shapes: N entities, n cells of the target, C channels, R regions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .linkage import region_means
from .matching import Matched

SOFTNESS = 0.08  # of the step from background to foreground, in units of the cells' values
SMALLEST = 3  # cells of a region that others are compared with


def best_region(means: Tensor, count: Tensor) -> Tensor:
    """The highest of values (N, R) of regions of at least ``SMALLEST`` cells, ``count`` (R,), or of
    any where all are smaller: (N,)."""
    return _large(means, count).amax(1)


def best_rows(means: Tensor, count: Tensor) -> Tensor:
    """Which regions these are: int64 (N,)."""
    return _large(means, count).argmax(1)


def presence(matched: Matched, labels: Tensor) -> Tensor:
    """Scores (N,) in [0, 1] of whether entities are there: two thirds of the highest cosine to a
    prototype, and a third of the mean of ``nearest`` in the region of the highest value. Chosen on
    docs/real_validation.md's groups by the areas under their ROCs."""
    means, count = region_means(matched.values, labels)
    best = _large(means, count).argmax(1, keepdim=True)
    near = region_means(matched.nearest, labels)[0].gather(1, best)[:, 0]
    return ((2 * matched.cosines.amax(1) + near) / 3).clamp(0, 1)


def best_value(matched: Matched, labels: Tensor) -> Tensor:
    """The value of the best region of each entity, (N,)."""
    return best_region(*region_means(matched.values, labels))


def _large(means: Tensor, count: Tensor) -> Tensor:
    large = count >= SMALLEST
    return means.masked_fill(~large, -torch.inf) if large.any() else means


def regions_alike(units: Tensor, labels: Tensor) -> Tensor:
    """Cosines (R, R) between the mean features of regions ``labels`` (n,) of cells (n, C)."""
    prototypes = F.normalize(region_means(units.T, labels)[0], dim=0)
    return prototypes.T @ prototypes


def choose_regions(
    values: Tensor,
    labels: Tensor,
    relative: float,
    threshold: float,
    alike: Tensor | None = None,
) -> Tensor:
    """Logits (N, n) of the cells.

    A region's value is its cells' mean, less ``relative`` times that of the best region; it is
    foreground above ``threshold``.

    Args:
        values: float (N, n), how much the cells are like each entity. labels: int64 (n,).
        alike: float (R, R), what a region's value gains by being like the best one (INSID3's
            aggregation), the weight included; None: nothing.
    """
    means, count = region_means(values, labels)
    best = best_region(means, count)[:, None]
    if alike is not None:
        means = means + alike[_large(means, count).argmax(1)]
    logits = (means - relative * best - threshold) / SOFTNESS
    return logits[:, labels.to(values.device)]
