"""Point-sampled binary cross-entropy and Dice (paper Sec. 3.4; supplement Sec. A).

Shape shorthand: n masks of one image, r side of the logits, S canvas side (px), P points.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from detectron2.utils import comm
from torch.nn import functional as F

from ..layers.precision import without_autocast
from . import released
from .quality import mask_iou, quality_losses


@contextmanager
def draws_of(seed, device):
    """Inside, torch's generators (CPU and ``device``) draw from ``seed``; restored afterwards.

    Each training sample brings its own seed, so that its draws do not depend on the batch, the
    process or the worker that it falls into.
    """
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type):
        torch.manual_seed(seed)
        yield


def uncertainty(logits):
    """How close a logit is to the boundary: −|logit|, the shape kept."""
    return -logits.abs()


def sample_points(logits, num_points, oversample_ratio, importance_ratio):
    """Positions (n, P, 2) in [0, 1]², (x, y), at which masks are compared (PointRend).

    A share ``importance_ratio`` lies where logits (n, r, r) are most uncertain among
    ``oversample_ratio``·P candidates; the rest is uniform.
    """
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


@dataclass
class EpisodeCriterion:
    """The losses of a batch of episodes: weighted BCE and Dice, averaged over all masks.

    Attributes:
        num_points, oversample_ratio, importance_ratio: see ``sample_points``.
        quality_weight: of the loss of the quality estimates; 0: there is none.
        threshold: of the masks whose IoU the quality estimates learn, see ``mask_iou``.
        average_over: "world", the masks of all processes, so that the mean over processes of the
            loss is the mean over all masks; or "process", each process's own (released).
    """

    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_ratio: float = 0.75
    bce_weight: float = 1.0
    dice_weight: float = 1.0
    average_over: str = "world"
    quality_weight: float = 0.0
    threshold: float = 0.0

    def __post_init__(self):
        if self.average_over not in ("world", "process"):
            raise ValueError(
                f"MODEL.SEGIC.LOSS.NUM_MASKS is {self.average_over!r}; "
                "it must be 'world' or 'process'"
            )

    def __call__(
        self, logits, targets, ignores, seeds, qualities=None, sizes=None, weights=None, count=None
    ):
        """Losses of a batch: ``total`` of ``per_mask``, which explain the arguments."""
        terms = self.per_mask(logits, targets, ignores, seeds, qualities, sizes)
        return self.total(terms, weights, count)

    @without_autocast
    def per_mask(self, logits, targets, ignores, seeds, qualities=None, sizes=None):
        """Losses of each mask.

        Args:
            logits: B float (n, r, r); targets: B bool (n, S, S); ignores: B bool (S, S) or None;
            seeds: B ints, from which each image's points are drawn.
            qualities: B float (n,), and sizes: B (h, w) in pixels, the content of each canvas;
                needed where ``quality_weight`` is above 0.

        Returns:
            B dicts {"mask", "dice"}, and "quality" where ``quality_weight`` is above 0, of (n,).
        """
        terms = []
        samples = zip(logits, targets, ignores, seeds, strict=True)
        for i, (low, target, ignore, seed) in enumerate(samples):
            with draws_of(seed, low.device):
                points = sample_points(
                    low, self.num_points, self.oversample_ratio, self.importance_ratio
                )
            bce, dice = mask_losses(low, target.to(low.dtype), points, ignore)
            terms.append({"mask": bce, "dice": dice})
            if self.quality_weight:
                iou = mask_iou(low, target, sizes[i], ignore, self.threshold)
                terms[-1]["quality"] = quality_losses(qualities[i], iou)
        return terms

    def total(self, terms, weights=None, count=None):
        """The losses of a batch from those of its masks.

        Args:
            terms: B dicts of ``per_mask``.
            weights: B floats, by which each image's losses are multiplied; None: 1.
            count: what the sums are divided by, see ``num_masks``; None: the number of masks.

        Returns:
            {"loss_mask", "loss_dice"}, and "loss_quality" where ``quality_weight`` is above 0.
        """
        weights = [1.0] * len(terms) if weights is None else weights
        joined = {
            name: torch.cat([w * x[name] for w, x in zip(weights, terms, strict=True)])
            for name in terms[0]
        }
        bce, dice = joined["mask"], joined["dice"]
        if count is None:
            count = self.num_masks(len(bce), bce.device)
        if self.average_over == "process":
            bce, dice = released.average_losses(bce, dice, count)
        else:
            bce, dice = bce.sum() / count, dice.sum() / count
        losses = {"loss_mask": self.bce_weight * bce, "loss_dice": self.dice_weight * dice}
        if "quality" in joined:
            losses["loss_quality"] = self.quality_weight * joined["quality"].sum() / count
        return losses

    def num_masks(self, count, device):
        """By what the sums over ``count`` masks of this process are divided: the mean number over
        the processes, or ``count`` itself. With "world" all processes must ask at the same time."""
        world = comm.get_world_size()
        if world == 1 or self.average_over == "process":
            return count
        total = torch.tensor(float(count), device=device)
        torch.distributed.all_reduce(total)
        return (total / world).item()
