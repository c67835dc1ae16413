"""How someone points at a thing: in a reference or in the target itself.

Coordinates are px of the picture as displayed, (x, y) from its upper left corner, here as in
``io/prompts.py``: the first pixel reaches from (0, 0) to (1, 1), and a point lies in the pixel of
its whole numbers. Shapes: H×W the picture as displayed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class MaskPrompt:
    """A mask: bool or float in [0, 1], (H, W)."""

    mask: np.ndarray


@dataclass(frozen=True)
class BoxPrompt:
    """A box: its left, upper, right and lower edge; 10, 5, 22, 15 has 12 columns and 10 rows."""

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


@dataclass(frozen=True, eq=False)
class Marked:
    """What any prompt of a reference says of one thing, pixel by pixel; the rest is open.

    Attributes:
        inside: bool (H, W), surely the thing.
        outside: bool (H, W), surely not the thing.

    Raises:
        ValueError: another type or shape, or a pixel that is both (it is named).
    """

    inside: np.ndarray
    outside: np.ndarray

    def __post_init__(self) -> None:
        for array in (self.inside, self.outside):
            if array.dtype != bool or array.ndim != 2 or array.shape != self.inside.shape:
                raise ValueError(
                    f"marked pixels are {array.dtype} {array.shape}; expected bool (H, W) twice"
                )
        both = np.argwhere(self.inside & self.outside)
        if len(both):
            y, x = both[0]
            raise ValueError(
                f"pixel ({x}, {y}) is marked both as the thing and as not the thing, "
                f"{len(both)} px in all"
            )

    @classmethod
    def of_mask(cls, mask: np.ndarray) -> Marked:
        """A mask, bool (H, W), which leaves nothing open."""
        return cls(mask, ~mask)

    @property
    def open(self) -> np.ndarray:
        """bool (H, W): what nothing is said of."""
        return ~(self.inside | self.outside)

    def joined(self, other: Marked) -> Marked:
        """What both say of the same thing. ValueError: they contradict each other."""
        return Marked(self.inside | other.inside, self.outside | other.outside)
