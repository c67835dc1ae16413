"""The forms in which Detectron2's own loaders ask, and its evaluators want to be answered.

They matter where a model holds a context: pictures come without references, and results are
numbered as the classes of a data set are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.catalog import Metadata

from .context import Context

logger = logging.getLogger(__name__)

KINDS = ("thing_classes", "stuff_classes")


@dataclass(frozen=True)
class StockForms:
    """
    Attributes:
        datasets: whose classes number the results (``DATASETS.TEST``). Where none is given, or none
            can be read, entities are numbered in the order of the context.
        format: order of the channels of pictures, "RGB" or "BGR" (``INPUT.FORMAT``).
        limit: objects per picture at most (``TEST.DETECTIONS_PER_IMAGE``).
        best: a pixel goes to the best class even where none passes (``TEST.NO_CLASS``).
        absent: where people ask, what has a lower score is left out (``MODEL.SEGIC.TEST.ABSENT``).
    """

    datasets: Sequence[str] = ()
    format: str = "RGB"
    limit: int = 100
    best: bool = False
    absent: float = 0.0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> StockForms:
        test = cfg.TEST
        limit, best = test.DETECTIONS_PER_IMAGE, test.NO_CLASS == "best"
        absent = cfg.MODEL.SEGIC.TEST.ABSENT
        return cls(tuple(cfg.DATASETS.TEST), cfg.INPUT.FORMAT, limit, best, absent)

    def numbers(self, context: Context) -> tuple[dict[int, int], dict[int, int]]:
        """{row of an entity: its class} among ``thing_classes`` and among ``stuff_classes``, by
        name; by position where the entities have no names. A data set that has one of the two
        numbers nothing by the other. ValueError: data sets of different classes, or an entity that
        is no class."""
        known = [self._classes(key) for key in KINDS]
        order = {row: row for row in range(len(context))}
        if not any(known):
            return order, order
        if not any(context.names):
            for classes in filter(None, known):
                if len(context) > len(classes):
                    raise ValueError(
                        f"the context has {len(context)} entities without names, and DATASETS.TEST "
                        f"has {len(classes)} classes"
                    )
            return order if known[0] else {}, order if known[1] else {}
        found = []
        for classes in known:
            positions = {name: i for i, name in enumerate(classes)}
            names = enumerate(map(str, context.names))
            found.append({row: positions[name] for row, name in names if name in positions})
        for row, name in enumerate(context.names):
            if not any(row in own for own in found):
                every = [*known[0], *known[1]]
                shown = ", ".join(every[:8]) + (", …" if len(every) > 8 else "")
                raise ValueError(
                    f"the context's entity {name!r} is no class of DATASETS.TEST, which has "
                    f"{shown}: give references and classes the same names, drop the entity "
                    "(Context.drop), or set DATASETS.TEST (), which numbers in the context's order"
                )
        return found[0], found[1]

    def channels(self, context: Context) -> tuple[int, int | None]:
        """The number of channels of "sem_seg", and the one that wins where no entity passes (None:
        there is none).

        That is the class "background", or else one more channel at the end: SemSegEvaluator counts
        it as a miss, and Visualizer paints nothing. Where classes have ids of their own
        SemSegEvaluator would refuse it, and the best class takes every pixel.
        """
        classes = self._classes("stuff_classes")
        number = len(classes) or len(context)
        if self.best:
            return number, None
        if "background" in classes:
            return number, classes.index("background")
        own_ids = any(self._metadata("stuff_dataset_id_to_contiguous_id"))
        return (number, None) if own_ids else (number + 1, number)

    def _metadata(self, key: str) -> list[Any]:
        return [v for name in self.datasets if (v := loaded(name).get(key))]

    def _classes(self, key: str) -> list[str]:
        distinct = {tuple(value) for value in self._metadata(key)}
        if len(distinct) > 1:
            raise ValueError(
                f"DATASETS.TEST names {', '.join(self.datasets)}, whose {key} differ: a model that "
                "holds a context numbers its results by one of them; leave that one there"
            )
        return list(distinct.pop()) if distinct else []


def loaded(name: str) -> Metadata:
    """The metadata of a data set; Detectron2 fills many when they are read for the first time."""
    metadata = MetadataCatalog.get(name)
    if not any(metadata.get(key) for key in KINDS):
        _read(name)
    return metadata


@cache
def _read(name: str) -> None:
    try:
        DatasetCatalog.get(name)
    except Exception as error:  # whatever its function raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        logger.warning(
            "DATASETS.TEST %r does not say its classes (%s): a held context's entities are "
            "numbered in their own order",
            name,
            reason,
        )
