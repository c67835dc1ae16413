"""The options of the region head, ``MODEL.SEGIC.REGIONS``."""

from __future__ import annotations

from dataclasses import dataclass

from detectron2.config import CfgNode

from ....config.keys import check_config
from .matching import Cues


@dataclass(frozen=True)
class RegionOptions:
    """``MODEL.SEGIC.REGIONS``: reference cells per shot, how much like the thing what is no
    background is, whether filled boxes are boxes, cues, the cut and the weight of positions of the
    linkage, what is a small thing, the share of the best region's value, the decoder's weight, the
    threshold, positional directions left out, the weight of being like the best."""

    cells: int = 240
    unmarked: float = 0.75
    boxes: bool = True
    cues: Cues = Cues()  # noqa: RUF009  frozen
    cut: float = 0.6
    position: float = 0.3
    small: float = 0.02
    relative: float = 0.3
    decoder: float = 0.0
    threshold: float = 0.03
    debias: int = 0
    aggregate: float = 0.0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RegionOptions:
        """The options of a config. ValueError: a value out of its range."""
        check_config(cfg, "MODEL.SEGIC.REGIONS")
        o = cfg.MODEL.SEGIC.REGIONS
        cues = Cues(o.PROTOTYPE, o.NEAREST, o.BACKGROUND, o.COMPETE, o.BACKWARD)
        linked, chosen = (o.CUT, o.POSITION, o.SMALL), (o.RELATIVE, o.DECODER, o.THRESHOLD)
        return cls(o.CELLS, o.UNMARKED, o.BOXES, cues, *linked, *chosen, o.DEBIAS, o.AGGREGATE)
