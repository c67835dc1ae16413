"""Metrics of the protocol "real pairs": intersections and unions are pooled over the episodes of a
class at the target's own size; the mean is over classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from detectron2.evaluation import DatasetEvaluator
from torch.nn import functional as F

from ..structures.episode import Episode
from ..structures.segmentation import Segmentation
from .threshold import best_threshold, histograms

Label = tuple[int, str]  # id and name of a class

BOUNDARY_RATIO = 0.02  # width of a boundary, share of the picture's diagonal


def boundary(mask: torch.Tensor, ratio: float = BOUNDARY_RATIO) -> torch.Tensor:
    """Pixels of a bool mask (H, W) within a distance of its contour, bool (H, W) (Boundary IoU, G_d
    ∩ G). The distance is the chessboard distance: ``ratio`` of the diagonal, rounded, at least 1
    px. The picture's frame counts as contour."""
    height, width = mask.shape
    distance = max(1, round(ratio * (height**2 + width**2) ** 0.5))
    outside = F.pad((~mask).to(torch.float32)[None, None], (1, 1, 1, 1), value=1.0)
    size = 2 * distance + 1
    for kernel in ((1, size), (size, 1)):  # a square window, one side at a time
        pad = kernel[0] // 2, kernel[1] // 2
        # max_pool2d's own padding stops at half the kernel and is −inf: exactly what is needed
        outside = F.max_pool2d(outside, kernel, stride=1, padding=pad)
    return mask & (outside[0, 0, 1:-1, 1:-1] > 0)


def overlap(
    mask: torch.Tensor, truth: torch.Tensor, truth_boundary: torch.Tensor | None = None
) -> np.ndarray:
    """Intersection and union of two bool masks (H, W), then of their boundaries: int64 (4,)."""
    edge = boundary(truth) if truth_boundary is None else truth_boundary
    own = boundary(mask)
    sums = [mask & truth, mask | truth, own & edge, own | edge]
    return np.array([int(s.sum()) for s in sums], dtype=np.int64)


class PooledIoU:
    """Sums ``overlap`` per class and makes percentages of the sums."""

    def __init__(self) -> None:
        self.sums: dict[Label, np.ndarray] = {}

    def add(self, label: Label, counts: np.ndarray) -> None:
        self.sums[label] = self.sums.get(label, 0) + counts

    def result(self) -> dict[str, Any]:
        """{"IoU", "boundary_IoU", "classes": {name: {"IoU", "boundary_IoU"}}}, in percent; first
        the means."""
        keys, sums = ("IoU", "boundary_IoU"), np.stack(list(self.sums.values()))
        values = 100 * sums[:, ::2] / np.maximum(sums[:, 1::2], 1)
        mean = {k: float(v) for k, v in zip(keys, values.mean(0), strict=True)}
        rows = [dict(zip(keys, map(float, row), strict=True)) for row in values]
        return {**mean, "classes": dict(zip([n for _, n in self.sums], rows, strict=True))}


class PairEvaluator(DatasetEvaluator):
    """Pools what a model says of episodes of one entity. It holds ``scores``, ``logits`` (1, r, r)
    by the episode's number, propagated masks and truths, so that thresholds may be tried
    afterwards. Below ``min_score`` the model would abstain. With ``straight``, such logits of the
    targets as they are, these here are mirrored and both are averaged. Evaluators may share
    ``edges``, boundaries of truths by file and class."""

    def __init__(
        self,
        min_score: float = 0.0,
        straight: Mapping[int, torch.Tensor] | None = None,
        edges: dict[Any, torch.Tensor] | None = None,
    ) -> None:
        self.min_score, self.straight = min_score, straight
        self.edges = {} if edges is None else edges
        self.reset()

    def reset(self) -> None:
        self.model, self.abstaining = PooledIoU(), PooledIoU()
        self.scores: list[float] = []
        self.logits: dict[int, torch.Tensor] = {}
        self._episodes: list[tuple[Label, Segmentation, torch.Tensor, torch.Tensor]] = []

    def process(self, inputs: Sequence[Episode], outputs: Sequence[Segmentation]) -> None:
        for x, found in zip(inputs, outputs, strict=True):
            label = x["entities"][0]["id"], str(x["entities"][0]["name"])
            truth, key = x["gt_masks"][0].cpu(), (x["file_name"], label)
            if key not in self.edges:
                self.edges[key] = boundary(truth)
            edge, logits = self.edges[key], found.frame.upsample(found.logits[:1])[0]
            if self.straight is not None:
                other = found.frame.upsample(self.straight[x["episode"]])[0]
                logits = (other + logits.flip(-1)) / 2
            mask = (logits > found.threshold).cpu()
            counts = overlap(mask, truth, edge)
            self.model.add(label, counts)
            self.scores.append(float(found.scores[0]))
            if self.scores[-1] < self.min_score:
                counts = overlap(torch.zeros_like(mask), truth, edge)
            self.abstaining.add(label, counts)
            self.logits[x["episode"]] = found.logits[:1]
            self._episodes.append((label, found, truth, edge))

    def evaluate(self) -> dict[str, Any]:
        """``PooledIoU.result`` of the model, with "lost_by_abstaining"."""
        found, left = self.model.result(), self.abstaining.result()
        return {**found, "lost_by_abstaining": found["IoU"] - left["IoU"]}

    def cut(self, threshold: float) -> dict[str, Any]:
        """``PooledIoU.result`` of the propagated masks above a threshold."""
        pooled = PooledIoU()
        for label, found, truth, edge in self._episodes:
            mask = found.frame.masks(_similarity(found), threshold)[0].cpu()
            pooled.add(label, overlap(mask, truth, edge))
        return pooled.result()

    def best(self) -> tuple[float, float]:
        """The threshold of the propagated masks that is best on these very data, and the mean IoU
        at it, in percent, up to the width of a histogram's bin."""
        levels: dict[Label, Any] = {}
        for label, found, truth, _ in self._episodes:
            full = found.frame.upsample(_similarity(found))[0].cpu()
            levels[label] = levels.get(label, 0) + histograms(full, truth)
        return best_threshold(list(levels.values()))


def _similarity(found: Segmentation) -> torch.Tensor:
    if found.similarity is None:
        raise ValueError("the model keeps no propagated masks, so that none can be measured")
    return found.similarity[:1]


def auroc(present: npt.ArrayLike, absent: npt.ArrayLike) -> float:
    """Area under the ROC curve: the share of (present, absent) couples of scores in which the
    present one is higher; equal ones count half. It is nan if either list is empty."""
    there, gone = (np.sort(np.asarray(x, dtype=np.float64)) for x in (present, absent))
    if not len(there) or not len(gone):
        return float("nan")
    below, not_above = (np.searchsorted(gone, there, side) for side in ("left", "right"))
    return float((below + not_above).sum() / (2 * len(there) * len(gone)))
