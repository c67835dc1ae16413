"""Where one shot of a film ends and the next begins."""

from __future__ import annotations

import numpy as np

GRID = 4  # parts of a picture along each side
LEVELS = 8  # of each channel
SAMPLES = 16384  # pixels that are counted, about
CUT = 0.25  # distance from which on two frames are of two shots; six real cuts 0.33 to 0.7, all
# other neighbours of 1,300 frames of five films below 0.17


def histogram(picture: np.ndarray) -> np.ndarray:
    """How often each level of each channel occurs in each part of a picture, uint8 (H, W, 3):
    float64 (GRID², 3, LEVELS), whose last axis sums to 1. A value counts for the two levels around
    it, so that a slow change of light changes it slowly."""
    height, width = picture.shape[:2]
    step = max(1, int((height * width / SAMPLES) ** 0.5))
    small = picture[::step, ::step]
    place = small.reshape(-1, 3) / 255 * (LEVELS - 1)
    low = np.minimum(place.astype(np.int64), LEVELS - 2)
    rows, columns = (np.arange(n) * GRID // n for n in small.shape[:2])
    part = (rows[:, None] * GRID + columns).reshape(-1, 1) * 3 + np.arange(3)
    found = np.zeros(GRID**2 * 3 * LEVELS)
    for level, weight in ((low, low + 1 - place), (low + 1, place - low)):
        found += np.bincount((part * LEVELS + level).ravel(), weight.ravel(), len(found))
    counts = found.reshape(-1, 3, LEVELS)
    return counts / np.maximum(counts.sum(2, keepdims=True), 1e-8)


def is_cut(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether two frames, by their histograms, are of two shots: the share of the pixels that have
    another level, the mean over parts and channels, is above ``CUT``."""
    return bool(np.abs(now - before).sum(2).mean() / 2 > CUT)
