"""Point-sampled binary cross-entropy and Dice (paper Sec. 3.4; supplement Sec. A).

Shapes: n masks of one image, r side of the logits, S canvas side (px), P points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from detectron2.projects.point_rend.point_features import (
    get_uncertain_point_coords_with_randomness,
    point_sample,
)
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F

from ..layers.precision import without_autocast
from . import released
from .quality import mask_iou, quality_losses

OVERSAMPLE, IMPORTANCE = 3.0, 0.75  # the paper's, and PointRend's


@contextmanager
def draws_of(seed: int, device: torch.device) -> Iterator[None]:
    """Inside, torch's generators (CPU and ``device``) draw from ``seed``; restored afterwards. Each
    training sample brings its own, so that its draws depend on no batch, process or worker."""
    devices = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(devices, device_type=device.type):
        torch.manual_seed(seed)
        yield


def uncertainty(logits: Tensor) -> Tensor:
    """How close a logit is to the boundary: −|logit|, the shape kept."""
    return -logits.abs()


def sample_points(logits: Tensor, num_points: int) -> Tensor:
    """Positions (n, P, 2) in [0, 1]², (x, y), at which masks are compared (PointRend).

    A share ``IMPORTANCE`` lies where logits (n, r, r) are most uncertain among ``OVERSAMPLE``·P
    candidates; the rest is uniform.
    """
    return get_uncertain_point_coords_with_randomness(
        logits.detach()[:, None], uncertainty, num_points, OVERSAMPLE, IMPORTANCE
    )


def mask_losses(
    logits: Tensor, targets: Tensor, points: Tensor, ignore: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """BCE (n,), the mean over the points, and Dice (n,), 1 − (2Σpt+1)/(Σp+Σt+1), of each mask, of
    logits (n, r, r) and targets (n, S, S) in [0, 1], both over the canvas, at points (n, P, 2) in
    [0, 1]². ``ignore``: bool (S, S), pixels without ground truth; points there weigh nothing."""
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
        num_points: per mask, see ``sample_points``. bce_weight, dice_weight: of these losses.
        quality_weight: of the loss of the quality estimates; 0: there is none.
        threshold: of the masks whose IoU the quality estimates learn, see ``mask_iou``.
        process_mean: (released) the mean is over each process's own masks; else over those of all
            processes, so that the mean over processes of the loss is the mean over all masks.
    """

    num_points: int = 12544
    bce_weight: float = 1.0
    dice_weight: float = 1.0
    quality_weight: float = 0.0
    threshold: float = 0.0
    process_mean: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode, process_mean: bool = False) -> EpisodeCriterion:
        loss, threshold = cfg.MODEL.SEGIC.LOSS, cfg.MODEL.SEGIC.TEST.THRESHOLD
        weights = loss.BCE_WEIGHT, loss.DICE_WEIGHT, loss.QUALITY_WEIGHT
        return cls(loss.NUM_POINTS, *weights, threshold, process_mean)

    @without_autocast
    def per_mask(
        self,
        logits: Sequence[Tensor],
        targets: Sequence[Tensor],
        ignores: Sequence[Tensor | None],
        seeds: Sequence[int],
        qualities: Sequence[Tensor] = (),
        sizes: Sequence[tuple[int, int]] = (),
    ) -> list[dict[str, Tensor]]:
        """Losses (n,) of each mask: B dicts {"mask", "dice"}, and "quality" where that has a
        weight.

        Logits are B float (n, r, r), targets bool (n, S, S), ignores bool (S, S) or None; the seeds
        are those that each image's points are drawn from. Qualities, float (n,), and sizes (h, w)
        in pixels, the contents of the canvases, are needed where quality has a weight.
        """
        terms = []
        samples = zip(logits, targets, ignores, seeds, strict=True)
        for i, (low, target, ignore, seed) in enumerate(samples):
            with draws_of(seed, low.device):
                points = sample_points(low, self.num_points)
            bce, dice = mask_losses(low, target.to(low.dtype), points, ignore)
            terms.append({"mask": bce, "dice": dice})
            if self.quality_weight:
                iou = mask_iou(low, target, sizes[i], ignore, self.threshold)
                terms[-1]["quality"] = quality_losses(qualities[i], iou)
        return terms

    def total(
        self,
        terms: Sequence[dict[str, Tensor]],
        weights: Sequence[float] | None = None,
        count: float | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch, {"loss_mask", "loss_dice"}, and "loss_quality" where it has a
        weight, from the B dicts of ``per_mask``. ``weights``: of each image, None: 1; ``count``:
        what the sums are divided by, see ``num_masks``, None: the number of masks."""
        weights = [1.0] * len(terms) if weights is None else weights
        joined = {
            name: torch.cat([w * x[name] for w, x in zip(weights, terms, strict=True)])
            for name in terms[0]
        }
        bce, dice = joined["mask"], joined["dice"]
        if count is None:
            count = self.num_masks(len(bce), bce.device)
        if self.process_mean:
            bce, dice = released.average_losses(bce, dice, count)
        else:
            bce, dice = bce.sum() / count, dice.sum() / count
        losses = {"loss_mask": self.bce_weight * bce, "loss_dice": self.dice_weight * dice}
        if "quality" in joined:
            losses["loss_quality"] = self.quality_weight * joined["quality"].sum() / count
        return losses

    def num_masks(self, count: int, device: torch.device) -> float:
        """By what the sums over ``count`` masks of this process are divided: the mean number over
        the processes, or ``count`` itself. All processes must ask at the same time."""
        world = comm.get_world_size()
        if world == 1 or self.process_mean:
            return count
        total = torch.tensor(float(count), device=device)
        torch.distributed.all_reduce(total)
        return (total / world).item()
