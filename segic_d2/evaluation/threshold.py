"""The mIoU that the propagated mask alone reaches at the best single threshold."""

from collections import OrderedDict

import numpy as np
import torch

from .pooling import EpisodeCounts

LEVELS = 2000  # thresholds in [-1, 1]


def histograms(values, truth):
    """Count how often each level occurs in foreground and background, int64 (2, LEVELS).

    Args:
        values: float, similarities in [-1, 1]; truth: bool of the same shape.
    """
    bins = ((values.float().clamp(-1, 1) + 1) / 2 * LEVELS).long().clamp(max=LEVELS - 1)
    return np.stack(
        [torch.bincount(bins[part], minlength=LEVELS).numpy() for part in (truth, ~truth)]
    )


def best_threshold(totals):
    """The threshold with the best mean IoU over classes, and that mean in percent.

    Args:
        totals: list of one sum of ``histograms`` per class.
    """
    # at threshold level k, everything in bins k, k+1, … is foreground
    above = np.stack(totals)[..., ::-1].cumsum(-1)[..., ::-1]
    truth = above[:, 0, :1]
    iou = above[:, 0] / np.maximum(truth + above[:, 1], 1)
    mean = iou.mean(0)
    best = int(mean.argmax())
    return 2 * best / LEVELS - 1, 100 * mean[best]


class BestThresholdEvaluator(EpisodeCounts):
    """Measures the mIoU of (propagated mask > t), where t is the best threshold for the dataset.

    The threshold is chosen on the evaluated data, which no real use could do. So the result is an
    upper bound of what thresholding can reach, to compare a decoder with.
    """

    key = "propagated_mask"

    def count(self, values, truth):
        """Histograms (2, LEVELS) of the map's values in the foreground and the background."""
        return histograms(values, truth)

    def evaluate(self):
        """Percentages {"propagated_mask": {"mIoU", "threshold", "episodes"}}."""
        totals = self.gather()
        if totals is None:
            return None
        threshold, mean = best_threshold(list(totals.values()))
        result = {"mIoU": mean, "threshold": threshold, "episodes": self.episodes}
        return OrderedDict(propagated_mask=OrderedDict(result))
