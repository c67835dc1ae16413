"""The regions of one picture: cells that look alike and lie together, by average linkage.

Shapes: g grid side (cells), C channels, h×w cells of the content, n = h·w.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.nn import functional as F

MOST = 2304  # cells that are linked, n² numbers: of larger pictures blocks of cells


def link_regions(
    units: Tensor, size: tuple[int, int], cuts: Sequence[float], position: float
) -> Tensor:
    """Which region each cell belongs to, by each of several cuts of one linkage: int64 (cuts, n),
    numbered from 0, on the CPU.

    Regions are clusters of average linkage on 1 − cosine + ``position`` · distance of the cells'
    centres in units of the longer side; at a cut of 0 every cell is its own.

    Args:
        units: float (n, C), unit features of the cells. size: (h, w).
    """
    height, width = size
    if not any(cuts) or len(units) == 1:
        return torch.arange(len(units)).repeat(len(cuts), 1)
    block = int(np.ceil((len(units) / MOST) ** 0.5))
    if block > 1:
        grid = units.T.unflatten(1, size)[None]
        pooled = F.avg_pool2d(grid, block, ceil_mode=True, count_include_pad=False)[0]
        fewer = int(pooled.shape[1]), int(pooled.shape[2])
        small = F.normalize(pooled.flatten(1).T, dim=1)
        coarse = link_regions(small, fewer, cuts, position).unflatten(1, fewer)
        fine = coarse.repeat_interleave(block, 1).repeat_interleave(block, 2)
        return fine[:, :height, :width].flatten(1)
    rows = torch.arange(height, dtype=torch.float32).repeat_interleave(width)
    columns = torch.arange(width, dtype=torch.float32).repeat(height)
    centres = torch.stack([rows, columns], 1) / max(size)
    units = units.detach().float().cpu()
    distance = 1 - units @ units.T + position * torch.cdist(centres, centres)
    upper = torch.triu_indices(len(units), len(units), 1)
    pairs = distance[upper[0], upper[1]].clamp(min=0).double().numpy()
    tree = linkage(pairs, "average")
    labels = [fcluster(tree, cut, "distance").astype(np.int64) - 1 for cut in cuts]
    return torch.from_numpy(np.stack(labels))


def connected_parts(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """The connected parts (four neighbours) of regions, which may be strewn: int64 (n,), numbered
    from 0, on the CPU. ``labels``: int64 (n,), the regions; ``size``: (h, w)."""
    own = labels.cpu().numpy().reshape(size)
    cells = np.arange(own.size).reshape(size)
    beside, below = own[:, 1:] == own[:, :-1], own[1:] == own[:-1]
    first = np.concatenate([cells[:, :-1][beside], cells[:-1][below]])
    second = np.concatenate([cells[:, 1:][beside], cells[1:][below]])
    joined = coo_array((np.ones(len(first)), (first, second)), (own.size, own.size))
    return torch.from_numpy(connected_components(joined, directed=False)[1].astype(np.int64))


def region_means(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Means (N, R) of values (N, n) in the R regions of ``labels`` (n,), and cells (R,) of each."""
    labels = labels.to(values.device)
    count = torch.bincount(labels).to(values.dtype)
    total = values.new_zeros(len(values), len(count)).index_add_(1, labels, values)
    return total / count, count
