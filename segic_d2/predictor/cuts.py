"""Where one shot of a film ends and the next begins."""

from __future__ import annotations

import numpy as np

LEVELS = 8  # of each channel
SAMPLES = 4096  # pixels that are counted, about
CUT = 0.3  # distance of histograms from which on two frames are of two shots


def histogram(picture: np.ndarray) -> np.ndarray:
    """How often each level of each channel occurs in a picture, uint8 (H, W, 3): float64 (3,
    LEVELS), rows sum to 1. A value counts for the two levels around it, so that a slow change of
    light changes it slowly."""
    step = max(1, int((picture.shape[0] * picture.shape[1] / SAMPLES) ** 0.5))
    place = picture[::step, ::step].reshape(-1, 3).T / 255 * (LEVELS - 1)
    low = np.minimum(place.astype(np.int64), LEVELS - 2)
    share, found = place - low, np.zeros((3, LEVELS))
    for channel in range(3):
        for level, weight in ((low, 1 - share), (low + 1, share)):
            found[channel] += np.bincount(level[channel], weight[channel], LEVELS)
    return found / place.shape[1]


def is_cut(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether two frames, by their histograms, are of two shots: the share of a channel that has
    another level, the mean over channels, is above ``CUT``."""
    return bool(np.abs(now - before).sum(1).mean() / 2 > CUT)
