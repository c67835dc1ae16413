"""Point-sampled binary cross-entropy and Dice (paper Sec. 3.4; supplement Sec. A).

Shape shorthand: n masks of one image, r side of the logits, S canvas side (px), P points.
"""

from contextlib import contextmanager

import torch
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from torch.nn import functional as F


@contextmanager
def draws_of(seed, device):
    """Inside, torch's generators (CPU and ``device``) draw from ``seed``; restored afterwards.

    Each training sample brings its own seed, so that its draws do not depend on the batch, the
    process or the worker that it falls into.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def uncertainty(logits):
    """How close a logit is to the boundary: −|logit|, the shape kept."""
    return -logits.abs()


def sample_points(logits, num_points, oversample_ratio, importance_ratio):
    """Positions (n, P, 2) in [0, 1]², (x, y): an ``importance_ratio`` of them where logits (n, r, r)
    are most uncertain among ``oversample_ratio``·P candidates, the rest uniform (PointRend)."""
    return get_uncertain_point_coords_with_randomness(
        logits.detach()[:, None], uncertainty, num_points, oversample_ratio, importance_ratio
    )


def mask_losses(logits, targets, points, ignore=None):
    """BCE and Dice of each mask at the given points.

    Args:
        logits: float (n, r, r), over the whole canvas.
        targets: float (n, S, S) in [0, 1], over the whole canvas.
        points: float (n, P, 2) in [0, 1]².
        ignore: bool (S, S), pixels without ground truth; points there weigh nothing.

    Returns:
        BCE (n,), the mean over the points; Dice (n,), 1 − (2Σpt+1)/(Σp+Σt+1).
    """
    predicted = point_sample(logits[:, None], points, align_corners=False)[:, 0]  # (n, P)
    with torch.no_grad():
        labels = point_sample(targets[:, None], points, align_corners=False)[:, 0]
        weight = torch.ones_like(labels)
        if ignore is not None:
            known = (~ignore).to(labels.dtype).expand(len(points), 1, -1, -1)
            weight = point_sample(known, points, align_corners=False, mode="nearest")[:, 0]
    bce = F.binary_cross_entropy_with_logits(predicted, labels, reduction="none")
    bce = (bce * weight).sum(1) / weight.sum(1).clamp(min=1)
    p, t = predicted.sigmoid() * weight, labels * weight
    dice = 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
    return bce, dice
