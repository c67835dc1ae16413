"""Where an object of a video is to be expected: by its last box, and how that moved.

Boxes are shares of the content, as in ``merging``; velocities are of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .merging import Box, box_iou

ODD = 0.75  # of a box's side: so much smaller, or larger, it is half hidden, or two that touch
NEW = 0.3  # share of the last step in the velocity
PULL = 0.2  # share of the way to the box of a half hidden object
GROWTH = 0.1  # share of the last box in the usual size


@dataclass(frozen=True)
class Motion:
    """The box of an object, None: nothing is known; its velocity (x, y) and usual size (width,
    height); and for how many frames it was not seen, and was seen with an odd size."""

    box: Box | None = None
    velocity: tuple[float, float] = (0.0, 0.0)
    size: tuple[float, float] = (0.0, 0.0)
    missed: int = 0
    odd: int = 0

    @classmethod
    def unpacked(cls, told: Mapping[str, Any]) -> Motion:
        """The one of fields that went through JSON."""
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in told.items()
        }
        return cls(**fields)

    @property
    def expected(self) -> Box | None:
        """Its box in the next frame."""
        if self.box is None:
            return None
        (x0, y0, x1, y1), (x, y) = self.box, self.velocity
        return x0 + x, y0 + y, x1 + x, y1 + y

    def after(self, seen: Box | None, lost: int, met: bool = False, sure: bool = True) -> Motion:
        """After a frame in which it had a box, or was not seen. As long as it is not seen, has
        ``met`` another one, or its size is odd, it goes on as before, for ``lost`` frames: then
        nothing is known, or the box holds. What is seen of one that was missed counts only if it
        is ``sure``: else a spot that is somewhat like it would keep it from being found."""
        if seen is None or (self.missed and not sure):
            box = self.expected if self.missed + 1 < lost else None
            return replace(self, box=box, missed=self.missed + 1)
        now = seen[2] - seen[0], seen[3] - seen[1]
        pairs = [*zip(now, self.size, strict=True)]
        odd = met or any(not ODD * usual <= side <= usual / ODD for side, usual in pairs)
        if self.box is None or (odd and self.odd >= lost):
            return Motion(seen, self.velocity if self.missed == 0 else (0.0, 0.0), now)
        step_x, step_y = (_centre(seen, axis) - _centre(self.box, axis) for axis in (0, 1))
        (x, y), (x0, y0, x1, y1) = self.velocity, self.box
        if odd:
            x, y = x + PULL * (step_x - x), y + PULL * (step_y - y)
            box = x0 + x, y0 + y, x1 + x, y1 + y
            return replace(self, box=box, missed=0, odd=self.odd + 1)
        if not self.odd and not self.missed:  # else the step also makes good what was guessed
            x, y = x + NEW * (step_x - x), y + NEW * (step_y - y)
        width, height = (usual + GROWTH * (side - usual) for side, usual in pairs)
        return Motion(seen, (x, y), (width, height))


def meeting(boxes: Sequence[Box | None]) -> list[bool]:
    """Which boxes overlap another one."""
    return [
        a is not None
        and any(b is not None and i != j and box_iou(a, b) for j, b in enumerate(boxes))
        for i, a in enumerate(boxes)
    ]


def _centre(box: Box, axis: int) -> float:
    return (box[axis] + box[axis + 2]) / 2
