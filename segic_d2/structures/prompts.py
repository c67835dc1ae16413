"""How someone points at a thing: in a reference or in the target itself.

Coordinates are px of the picture as displayed, (x, y) from its upper left corner; (0, 0) is the
centre of the first pixel.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A mask: bool or float in [0, 1], (H, W)."""

    mask: np.ndarray


@dataclass(frozen=True)
class BoxPrompt:
    """A box: its left, upper, right and lower edge."""

    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class PointsPrompt:
    """Points on the thing, and points that are not on it: tuples of (x, y)."""

    positive: tuple[tuple[float, float], ...]
    negative: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class ScribblePrompt:
    """A line drawn over the thing: its corners (x, y), and its width in px."""

    line: tuple[tuple[float, float], ...]
    width: float = 1.0


@dataclass(frozen=True)
class TextPrompt:
    """A name or a sentence."""

    text: str


Prompt = MaskPrompt | BoxPrompt | PointsPrompt | ScribblePrompt | TextPrompt
