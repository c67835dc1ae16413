"""Correspondence between references and targets: pure functions on tensors (paper Eq. 1-2).

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells),
n masks, M entities over all images, k points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ...utils.devices import upload
from .precision import without_autocast
from .upsampled import similarity_of_upsampled


def pool_mask(masks: Tensor, canvas: int, grid: int, center: bool = False) -> Tensor:
    """Weights (n, g, g) of the grid cells under soft masks (n, h, w) of references, in [0, 1].

    The share of each cell that is covered, so that nothing vanishes; or the released rule,
    ``center_weights``. The padding to the canvas weighs nothing; ValueError for a larger mask.
    """
    height, width = masks.shape[-2:]
    if max(height, width) > canvas:
        raise ValueError(f"mask of {height}x{width} px does not fit the canvas of {canvas} px")
    masks = F.pad(masks, (0, canvas - width, 0, canvas - height))
    if center:
        return center_weights(masks, grid)
    return F.avg_pool2d(masks[:, None], canvas // grid)[:, 0]


def group_norms(features: Tensor, eps: float = 1e-8, groups: int = 1) -> Tensor:
    """Lengths (…, groups, 1, L) of ``groups`` equal groups of channels of features (…, C, L)."""
    parts = features.unflatten(-2, (groups, -1))
    return parts.square().sum(-2, keepdim=True).sqrt().clamp(min=eps)


def pool_prototypes(
    features: Tensor,
    weights: Tensor,
    eps: float = 1e-8,
    center: Tensor | None = None,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """Mean feature (n, C) and mean unit feature (n, C) under soft masks; 0 where one is empty.

    Features (C, g, g) are of one reference, weights (n, g, g) ≥ 0 of its cells. A feature, less
    ``center`` (C,), is made a unit vector, or one per equal group of channels; ``eps`` bounds its
    norm from below. A mean of unit vectors is shorter than 1: a dot product with it equals the mean
    of the cosines to all reference positions (Eq. 2).
    """
    weights = weights.flatten(1)
    total = weights.sum(1, keepdim=True)
    weights = weights / torch.where(total > 0, total, torch.ones_like(total))
    flat = features.flatten(1)  # (C, g·g)
    centered = flat if center is None else flat - center[:, None]
    parts = centered.unflatten(0, (groups, -1)) / group_norms(centered, eps, groups)
    return weights @ flat.T, weights @ parts.flatten(0, 1).T


@without_autocast
def propagated_mask(
    features: Tensor,
    vectors: Tensor,
    image_index: Tensor,
    *,
    counts: Sequence[int] | None = None,
    upsample_to: int = 0,
    eps: float = 1e-8,
    tau: float = 1.0,
    groups: int = 1,
) -> Tensor:
    """Similarity (M, g, g) of every target position to each entity's vector (Eq. 1-2).

    Args:
        features: float (B, C, g, g) of the targets.
        vectors: float (M, C), mean unit prototypes (or unit vectors) of the entities.
        image_index: int64 (M,), sorted, the target of each entity.
        counts: how many entities each of the B targets has; None: read off ``image_index``, for
            which the host waits.
        upsample_to: 0, or the side of the result: that to which the features are (in effect)
            interpolated before the cosine, see ``similarity_of_upsampled``.
        eps: lower bound of a feature's norm. tau: temperature that divides the similarity.
        groups: equal groups of channels, each with its own cosine, not with ``upsample_to``; the
            result of several is (M, groups, g, g).
    """
    flat, grid = features.flatten(2), features.shape[-2:]
    if counts is None:
        counts = torch.bincount(image_index, minlength=len(features)).tolist()
    slot = upload([i for n in counts for i in range(n)], features.device, torch.long)
    padded = vectors.new_zeros(len(features), max(counts, default=0), vectors.shape[1])
    padded[image_index, slot] = vectors
    if upsample_to:
        dots = (padded @ flat).unflatten(2, grid)  # (B, rows, g, g)
        maps = similarity_of_upsampled(features, dots, upsample_to, eps)
    else:
        parts = flat.unflatten(1, (groups, -1))  # (B, groups, C/groups, g·g)
        dots = padded.unflatten(2, (groups, -1)).transpose(1, 2) @ parts  # (B, groups, rows, g·g)
        maps = (dots / group_norms(flat, eps, groups)).transpose(1, 2).unflatten(-1, grid)
        if groups == 1:
            maps = maps[:, :, 0]
    return maps[image_index, slot] / tau


def deviations(maps: Tensor, inside: Tensor, eps: float = 1e-6) -> Tensor:
    """Maps (M, r, r) less their mean, over their standard deviation, both of the cells ``inside``
    (bool (M, r, r)); 0 elsewhere."""
    weight = inside.to(maps.dtype)
    count = weight.sum((1, 2), keepdim=True)
    centered = (maps - (maps * weight).sum((1, 2), keepdim=True) / count) * weight
    return centered / (centered.square().sum((1, 2), keepdim=True) / count).sqrt().clamp(min=eps)


def best_points(
    maps: Tensor, valid: Tensor, count: int, min_distance: float, canvas: int, cell: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The ``count`` best positions of each propagated mask, kept apart (top-k points).

    Args:
        maps: float (M, r, r). valid: bool (M, r, r), where a point may lie.
        min_distance: px on the canvas between two points; positions are always distinct.
        cell: side of a grid cell, px; no two points lie in one cell, where maps are finer.

    Returns:
        float (M, k, 2), px on the canvas; bool (M, k), False where no position was left.
    """
    side = maps.shape[-1]
    step = canvas / side
    centre = (torch.arange(side, device=maps.device, dtype=torch.float32) + 0.5) * step - 0.5
    grid = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), dim=-1).flatten(0, 1)
    score = maps.detach().flatten(1)
    # a copy costs a CPU more than to ask; elsewhere the host would wait for the answer
    if score.device.type != "cpu" or not valid.all():
        score = score.masked_fill(~valid.flatten(1), -torch.inf)
    points, found = [], []
    for i in range(count):  # k is small; every step serves all entities
        best, index = score.max(dim=1)
        point = grid[index]  # (M, 2)
        points.append(point)
        found.append(best > -torch.inf)
        if i + 1 < count:
            # a hair below the distance, so that neighbours at exactly that distance stay
            near = (point[:, None] - grid).norm(dim=-1) < min_distance - 1e-3  # (M, r·r)
            if cell > step:
                own = (point + 0.5).div(cell).floor()
                near |= (own[:, None] == (grid + 0.5).div(cell).floor()).all(-1)
            near[torch.arange(len(maps), device=maps.device), index] = True
            score = score.masked_fill(near, -torch.inf)
    return torch.stack(points, 1), torch.stack(found, 1)


def center_samples(masks: Tensor, grid: int) -> Tensor:
    """Bilinear samples (n, g, g) of masks (n, S, S) at the cells' centres, without antialiasing.

    At a stride of 14 that is the mean of a cell's four centre pixels.
    """
    size = (grid, grid)
    return F.interpolate(masks[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def center_weights(masks: Tensor, grid: int) -> Tensor:
    """Cells (n, g, g) in {0, 1} whose centre samples of the masks (n, S, S) are above one half.

    Small masks vanish: a 10-px square survives with probability 0.4 at a stride of 14.
    """
    return (center_samples(masks, grid) > 0.5).to(masks.dtype)
