"""The options of a video, ``TEST.VIDEO``."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode

from ..config.keys import check_config
from ..structures.memory import MemoryOptions


@dataclass(frozen=True)
class VideoOptions:
    """How objects are followed.

    Attributes:
        memory: what is remembered. views: how a given frame is seen: cut about all its objects
            ("joint"), and about each ("close"), where the model's input says how close.
        merge: "argmax": a pixel belongs to the highest logit, "soft": by the aggregation of STM, of
            equal ones to the smallest id; "independent": every object by itself, masks overlap.
        absent: an object is not there where its score is below this share of its own score.
        window: margin around the box where an object is expected, as a share of its longer side,
            and as much more for each frame that it was not seen in; beyond it cannot be, and inside
            the nearest of look-alikes has it; 0: it may be anywhere. lost: frames after which the
            window is lifted.
        cross_points: the points of others are negative ones of each (released).
    """

    memory: MemoryOptions = MemoryOptions()  # noqa: RUF009  frozen
    views: tuple[str, ...] = ("joint", "close")
    merge: str = "argmax"
    absent: float = 0.5
    window: float = 0.5
    lost: int = 10
    cross_points: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> VideoOptions:
        """The options of a config. ValueError: a value out of its range."""
        check_config(cfg, "TEST.VIDEO")
        v, memory = cfg.TEST.VIDEO, MemoryOptions.from_config(cfg)
        return cls(memory, tuple(v.VIEWS), v.MERGE, v.ABSENT, v.WINDOW, v.LOST, v.CROSS_POINTS)
