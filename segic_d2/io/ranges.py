"""Grey values of more than 8 bits → 8 bits, by the range that a picture uses."""

import logging

import numpy as np

from ..utils.texts import printable

DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras, microscopes and scanners
NARROW = 8  # a picture that uses less than this part of its depth is stretched

logger = logging.getLogger(__name__)
_said: set[str] = set()


def depth(values: np.ndarray) -> int:
    """The bits that values ≥ 0 use, as cameras have them; 0: more than 16."""
    return next((bits for bits in DEPTHS if int(values.max()) < 1 << bits), 0)


def to_eight_bits(values: np.ndarray, source: str = "") -> np.ndarray:
    """Integer values as uint8: 8, 10, 12, 14 or 16 bits are scaled to the full range of 8. What
    uses less than an eighth of its bits, has more than 16 or goes below 0, such as temperatures,
    is stretched from its least to its largest value. Other than 16 bits are said once, with the
    picture's name, ``source``."""
    low, high = int(values.min()), int(values.max())
    bits = depth(values) if low >= 0 else 0
    full = (1 << bits) - 1
    span = high - low
    if span and (not bits or span * NARROW < full):
        _say_once("stretched from the least to the largest", f"{low} to {high}", source)
        return np.rint((values.astype(np.float64) - low) * (255 / span)).astype(np.uint8)
    if not bits:  # one value, of no range that is known
        return np.full(values.shape, 127, np.uint8)
    if bits < 16 and span:
        _say_once(f"taken as {bits} bits", f"up to {high}", source)
    return np.rint(values * (255 / full)).astype(np.uint8)


def _say_once(how: str, values: str, source: str) -> None:
    if how not in _said:
        _said.add(how)
        picture = printable(source) or "a picture"
        logger.warning("%s has grey values %s: they are %s (said once)", picture, values, how)
