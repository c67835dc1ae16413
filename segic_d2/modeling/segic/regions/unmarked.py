"""What a reference leaves unmarked although it looks like the thing: neither thing nor background.

Who marks one coin of many wants coins to be found, not the others to be told from it. Regions of
the reference's own picture that nobody marked but that are nearly as much like the marked cells as
these are like each other say nothing, so that they do not become background cells.

Shapes: C channels, n cells of the whole picture, m cells of the cut.
"""

from __future__ import annotations

import torch
from scipy import ndimage
from torch import Tensor

from .cells import BACKGROUND, front
from .linkage import region_means
from .matching import highest_mean

NEAREST = 20  # cells of the thing that a cell is compared with
WHOLE = 2 / 3  # of the share asked for, where the thing's cells in the whole picture count too
BESIDE = 1  # cells around such regions that belong to them: their edges look less alike


def find_unmarked(
    cut: Tensor,
    cut_shares: Tensor,
    whole: Tensor,
    whole_shares: Tensor,
    labels: Tensor,
    size: tuple[int, int],
    share: float,
) -> Tensor:
    """Which background cells of the whole picture are alike, bool (n,).

    A region's background cells are, if their mean cosine to the thing's ``NEAREST`` cells in the
    cut is at least ``share`` of the median of the thing's own cells in the picture, and, with its
    cells there among them, ``WHOLE`` of that.

    Args:
        cut, whole: float (m, C) and (n, C), unit features. cut_shares, whole_shares: (m,) and (n,),
            share of the mask. labels: int64 (n,), regions of the whole picture. size: its (h, w).
    """
    own, behind = front(whole_shares), whole_shares < BACKGROUND
    near = highest_mean(whole @ cut[front(cut_shares)].T, NEAREST)
    both = near.maximum(highest_mean(whole @ whole[own].T, NEAREST))
    count = region_means(behind[None].to(near.dtype), labels)[0]
    means = region_means(torch.stack([near, both]) * behind, labels)[0] / count.clamp(min=1e-8)
    least = torch.stack([share * near[own].median(), WHOLE * share * both[own].median()])
    alike = behind & (means >= least[:, None]).all(0)[labels.to(means.device)]
    grown = ndimage.binary_dilation(alike.view(size).cpu().numpy(), iterations=BESIDE)
    return behind & torch.from_numpy(grown).flatten().to(behind.device)
