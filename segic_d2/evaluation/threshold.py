"""The mIoU that the propagated mask alone reaches at the best single threshold."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from .pooling import EpisodeCounts, Report

LEVELS = 2000  # thresholds in [-1, 1]


def histograms(values: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """How often each level occurs in foreground and background, int64 (2, LEVELS), of float
    similarities in [-1, 1] and a bool truth of the same shape."""
    bins = ((values.float().clamp(-1, 1) + 1) / 2 * LEVELS).long().clamp(max=LEVELS - 1)
    counts = [torch.bincount(bins[part], minlength=LEVELS) for part in (truth, ~truth)]
    return torch.stack(counts).numpy()


def best_threshold(totals: Sequence[np.ndarray]) -> tuple[float, float]:
    """The threshold with the best mean IoU over classes, whose ``histograms`` were summed, and that
    mean in percent."""
    # at threshold level k, everything in bins k, k+1, … is foreground
    above = np.stack(totals)[..., ::-1].cumsum(-1)[..., ::-1]
    truth = above[:, 0, :1]
    iou = above[:, 0] / np.maximum(truth + above[:, 1], 1)
    mean = iou.mean(0)
    best = int(mean.argmax())
    return 2 * best / LEVELS - 1, 100 * mean[best]


class BestThresholdEvaluator(EpisodeCounts):
    """Measures the mIoU of (propagated mask > t) at the t that is best on the evaluated data: an
    upper bound of what thresholding can reach, to compare a decoder with."""

    key = "propagated_mask"

    def count(self, values: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
        return histograms(values, truth)

    def evaluate(self) -> Report | None:
        """Percentages {"propagated_mask": {"mIoU", "threshold", "episodes"}}."""
        totals = self.gather()
        if totals is None:
            return None
        threshold, mean = best_threshold(list(totals.values()))
        result = {"mIoU": mean, "threshold": threshold, "episodes": self.episodes}
        return OrderedDict(propagated_mask=OrderedDict(result))
