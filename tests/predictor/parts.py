"""Pictures and masks of the predictor's tests."""

import numpy as np

H, W = 60, 90


def picture(seed, size=(H, W)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def square(y=10, x=20, size=(H, W)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + 20, x : x + 30] = True
    return mask
