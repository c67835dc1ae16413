"""Correspondence between references and targets: pure functions on tensors (paper Eq. 1-2).

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells),
n masks, M entities over all images, k points.
"""

import torch
from torch.nn import functional as F

from ...utils.devices import upload
from .precision import without_autocast
from .upsampled import similarity_of_upsampled


def pool_mask(masks, canvas, grid, mode="area"):
    """Weights of the grid cells under reference masks.

    Args:
        masks: float (n, h, w) in [0, 1], soft masks at network size; h, w ≤ canvas.
        canvas: S, side of the padded square in pixels. Padding weighs nothing.
        grid: g, cells per side.
        mode: "area": share of each cell that is covered, so that nothing vanishes;
            "center": the released rule, see ``center_weights``.

    Returns:
        float (n, g, g).

    Raises:
        ValueError: unknown mode, or a mask larger than the canvas.
    """
    height, width = masks.shape[-2:]
    if max(height, width) > canvas:
        raise ValueError(f"mask of {height}x{width} px does not fit the canvas of {canvas} px")
    masks = F.pad(masks, (0, canvas - width, 0, canvas - height))
    if mode == "area":
        return F.avg_pool2d(masks[:, None], canvas // grid)[:, 0]
    if mode == "center":
        return center_weights(masks, grid)
    raise ValueError(f"MODEL.SEGIC.MASK_POOLING is {mode!r}; it must be 'area' or 'center'")


def group_norms(features, eps=1e-8, groups=1):
    """Lengths (…, groups, 1, L) of ``groups`` equal groups of channels of features (…, C, L)."""
    parts = features.unflatten(-2, (groups, -1))
    return parts.square().sum(-2, keepdim=True).sqrt().clamp(min=eps)


def pool_prototypes(features, weights, eps=1e-8, center=None, groups=1):
    """Mean feature and mean unit feature under soft masks.

    Args:
        features: float (C, g, g), features of one reference.
        weights: float (n, g, g) ≥ 0, weights of the cells.
        eps: lower bound of a feature's norm.
        center: float (C,), subtracted before the features are made unit vectors; None: nothing.
        groups: equal groups of channels, each of which is made a unit vector of its own.

    Returns:
        prototypes (n, C) and unit prototypes (n, C); zeros where a mask is empty. A unit
        prototype is the mean of unit vectors, hence shorter than 1: a dot product with it equals
        the mean of the cosines to all reference positions (Eq. 2).
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
    features, vectors, image_index, *, counts=None, upsample_to=0, eps=1e-8, tau=1.0, groups=1
):
    """Similarity of every target position to each entity's vector (Eq. 1-2).

    Args:
        features: float (B, C, g, g), features of the targets.
        vectors: float (M, C), mean unit prototypes (or unit vectors) of the entities.
        image_index: int64 (M,), sorted, the target of each entity.
        counts: how many entities each of the B targets has; None: read off ``image_index``, for
            which the host waits.
        upsample_to: 0 for cosines on the grid; otherwise the side to which the features are
            (in effect) interpolated before the cosine, see ``similarity_of_upsampled``.
        eps: lower bound of a feature's norm.
        tau: temperature that divides the similarity.
        groups: equal groups of channels, each with its own cosine; not with ``upsample_to``.

    Returns:
        float (M, g, g), or (M, upsample_to, upsample_to); with several groups (M, groups, g, g).
    """
    grid = features.shape[-2:]
    if counts is None:
        counts = torch.bincount(image_index, minlength=len(features)).tolist()
    slot = upload([i for n in counts for i in range(n)], features.device, torch.long)
    rows = max(counts, default=0)
    padded = vectors.new_zeros(len(features), rows, vectors.shape[1])
    padded[image_index, slot] = vectors
    if upsample_to:
        dots = (padded @ features.flatten(2)).unflatten(2, grid)  # (B, rows, g, g)
        maps = similarity_of_upsampled(features, dots, upsample_to, eps)
    else:
        flat = features.flatten(2)
        parts = flat.unflatten(1, (groups, -1))  # (B, groups, C/groups, g·g)
        dots = padded.unflatten(2, (groups, -1)).transpose(1, 2) @ parts  # (B, groups, rows, g·g)
        maps = (dots / group_norms(flat, eps, groups)).transpose(1, 2).unflatten(-1, grid)
        if groups == 1:
            maps = maps[:, :, 0]
    return maps[image_index, slot] / tau


def deviations(maps, inside, eps=1e-6):
    """Maps (M, r, r) less their mean, over their standard deviation, both of the cells ``inside``
    (bool (M, r, r)); 0 elsewhere."""
    weight = inside.to(maps.dtype)
    count = weight.sum((1, 2), keepdim=True)
    centered = (maps - (maps * weight).sum((1, 2), keepdim=True) / count) * weight
    return centered / (centered.square().sum((1, 2), keepdim=True) / count).sqrt().clamp(min=eps)


def best_points(maps, valid, count, min_distance, canvas, cell=0.0):
    """The ``count`` best positions of each propagated mask, kept apart (top-k points).

    Args:
        maps: float (M, r, r), propagated masks.
        valid: bool (M, r, r), where a point may lie.
        count: k.
        min_distance: pixels on the canvas between two points, at least; positions are always
            distinct.
        canvas: S, in pixels.
        cell: side of a grid cell in pixels; no two points lie in one cell, where maps are finer.

    Returns:
        xy: float (M, k, 2), pixel coordinates of the points on the canvas.
        found: bool (M, k), False where no position was left.
    """
    entities, side = len(maps), maps.shape[-1]
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
            near[torch.arange(entities, device=maps.device), index] = True
            score = score.masked_fill(near, -torch.inf)
    return torch.stack(points, 1), torch.stack(found, 1)


def center_samples(masks, grid):
    """Bilinear samples (n, g, g) of masks (n, S, S) at the cells' centres, without antialiasing.

    At a stride of 14 that is the mean of a cell's four centre pixels.
    """
    size = (grid, grid)
    return F.interpolate(masks[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]


def center_weights(masks, grid):
    """Cells (n, g, g) in {0, 1} whose centre samples of the masks (n, S, S) are above one half.

    Small masks vanish: a 10-px square survives with probability 0.4 at a stride of 14.
    """
    return (center_samples(masks, grid) > 0.5).to(masks.dtype)
