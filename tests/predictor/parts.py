"""Pictures and masks of the predictor's tests."""

import numpy as np

from segic_d2.predictor.references import read_references

H, W = 60, 90


def picture(seed, size=(H, W)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def square(y=10, x=20, size=(H, W)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + 20, x : x + 30] = True
    return mask


def not_asked(picture, marked):
    raise AssertionError("a mask leaves nothing open")


def read_masked(references, model):
    """Masked references, for which no model is asked."""
    return read_references(references, model.input, not_asked)
