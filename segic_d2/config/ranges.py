"""The ranges of segic_d2's keys, so that a slip is named before a run starts."""

from collections.abc import Iterable, Iterator
from functools import reduce
from typing import Any, Literal

from detectron2.config import CfgNode

INF = float("inf")

NUMBERS = {  # key → least, most
    "MODEL.SEGIC.SIMILARITY.GROUPS": (1, INF),
    "MODEL.SEGIC.SIMILARITY.MEAN_IMAGES": (1, INF),
    "MODEL.SEGIC.CROSS_ENTITY.TRAIN_PROB": (0, 1),
    "MODEL.SEGIC.BOX_PROMPT_PROB": (0, 1),
    "MODEL.SEGIC.MIXSTYLE": (0, INF),
    "MODEL.SEGIC.DECODER.MASK_TOKENS": (1, INF),
    "MODEL.SEGIC.LOSS.NUM_POINTS": (1, INF),
    "MODEL.SEGIC.LOSS.OVERSAMPLE_RATIO": (1, INF),
    "MODEL.SEGIC.LOSS.IMPORTANCE_RATIO": (0, 1),
    "MODEL.SEGIC.LOSS.BCE_WEIGHT": (0, INF),
    "MODEL.SEGIC.LOSS.DICE_WEIGHT": (0, INF),
    "MODEL.SEGIC.LOSS.QUALITY_WEIGHT": (0, INF),
    "MODEL.SEGIC.TEST.REFINE.WALK": (0, 0.99),
    "MODEL.SEGIC.TEST.REFINE.WALK_POWER": (0.1, INF),
    "MODEL.SEGIC.TEST.REFINE.RADIUS": (0, INF),
    "MODEL.SEGIC.TEST.REFINE.EPS": (1e-4, INF),
    "MODEL.SEGIC.ENTITY_CHUNK": (0, INF),
    "MODEL.SEGIC.IMAGE_CHUNK": (1, INF),
    "MODEL.SEGIC.FEATURE_MEMORY": (0, INF),
    "INPUT.SEMANTIC.MAX_ENTITIES": (1, INF),
    "INPUT.SEMANTIC.MAX_SHOTS": (1, INF),
    "INPUT.SEMANTIC.FLIP_PROB": (0, 1),
    "INPUT.INSTANCE.MAX_MASKS": (1, INF),
    "INPUT.INSTANCE.FLIP_PROB": (0, 1),
    "INPUT.INSTANCE.JITTER_PROB": (0, 1),
    "INPUT.MAX_REDRAWS": (0, INF),
    "INPUT.TEXT_KEEP_PROB": (0, 1),
}
INTERVALS = {  # key → most; (low, high) with 0 < low ≤ high
    "INPUT.SEMANTIC.SCALE": INF,
    "INPUT.INSTANCE.AREA": 1,
    "INPUT.INSTANCE.ASPECT": INF,
}


def check_ranges(cfg: CfgNode, part: Literal["MODEL", "INPUT"]) -> None:
    """Look at the keys of one part of a config.

    Raises:
        ValueError: a value out of its range; the key is named.
    """

    def values(keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
        for key in keys:
            if key.startswith(f"{part}."):
                yield key, reduce(getattr, key.split("."), cfg)

    for key, value in values(NUMBERS):
        least, most = NUMBERS[key]
        if not least <= value <= most:
            allowed = f"at least {least}" if most == INF else f"in [{least}, {most}]"
            raise ValueError(f"{key} is {value}; it must be {allowed}")
    for key, value in values(INTERVALS):
        most = INTERVALS[key]
        if len(value) != 2 or not 0 < value[0] <= value[1] <= most:
            end = "" if most == INF else f" ≤ {most}"
            raise ValueError(
                f"{key} is {tuple(value)}; it must be (low, high), 0 < low ≤ high{end}"
            )
    if part == "MODEL" and cfg.MODEL.SEGIC.BOX_PROMPT_PROB == 1:
        raise ValueError(
            "MODEL.SEGIC.BOX_PROMPT_PROB is 1; below that, training also sees what stands in place "
            "of the box, as always at inference"
        )
    if part == "INPUT":
        jitter = cfg.INPUT.INSTANCE.JITTER
        if len(jitter) != 4 or min(jitter) < 0 or jitter[3] > 0.5:
            raise ValueError(
                f"INPUT.INSTANCE.JITTER is {tuple(jitter)}; it must be four numbers ≥ 0, the last "
                "(hue) at most 0.5"
            )
