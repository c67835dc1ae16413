"""The forms in which Detectron2's own loaders ask, and its evaluators want to be answered.

They matter where a model holds a context: pictures come without references, and results are
numbered as the classes of a data set are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from .context import Context

KINDS = ("thing_classes", "stuff_classes")


@dataclass(frozen=True)
class StockForms:
    """
    Attributes:
        datasets: whose classes number the results (``DATASETS.TEST``); those that name no classes
            do not count. Without any, entities are numbered in the order of the context.
        format: order of the channels of pictures, "RGB" or "BGR" (``INPUT.FORMAT``).
        limit: objects per picture at most (``TEST.DETECTIONS_PER_IMAGE``).
        best: a pixel goes to the best class even where none passes (``TEST.NO_CLASS``).
    """

    datasets: tuple[str, ...] = ()
    format: str = "RGB"
    limit: int = 100
    best: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode) -> StockForms:
        test = cfg.TEST
        limit, best = test.DETECTIONS_PER_IMAGE, test.NO_CLASS == "best"
        return cls(tuple(cfg.DATASETS.TEST), cfg.INPUT.FORMAT, limit, best)

    def fits(self, key: str, context: Context) -> bool:
        """Whether results can be numbered by the classes of a key, "thing_classes" or
        "stuff_classes": their data set has such, with all the entities, or no classes at all."""
        classes = self._classes(key)
        if not classes:
            return not any(map(self._classes, KINDS))
        return not any(context.names) or set(context.names) <= set(classes)

    def things(self, context: Context) -> list[int]:
        """The class of each entity among ``thing_classes``. ValueError: data sets of different
        classes, or an entity whose name is none of them."""
        return _positions(context, self._classes("thing_classes"))

    def stuff(self, context: Context) -> tuple[list[int], int, int | None]:
        """The class of each entity among ``stuff_classes``, the number of channels of "sem_seg",
        and the channel that wins where no entity passes (None: there is none).

        That is the class "background", or else one more channel at the end: SemSegEvaluator counts
        it as a miss, and Visualizer paints nothing. Where classes have ids of their own
        SemSegEvaluator would refuse it, and the best class takes every pixel. ValueError as of
        ``things``.
        """
        classes = self._classes("stuff_classes")
        positions = _positions(context, classes)
        number = len(classes) if classes else len(context)
        if self.best:
            return positions, number, None
        if "background" in classes:
            return positions, number, classes.index("background")
        if self._known("stuff_dataset_id_to_contiguous_id"):
            return positions, number, None
        return positions, number + 1, number

    def _known(self, key: str) -> dict[str, Sequence[str]]:
        each = {name: MetadataCatalog.get(name).get(key) for name in self.datasets}
        return {name: value for name, value in each.items() if value}

    def _classes(self, key: str) -> list[str]:
        known = self._known(key)
        distinct = {tuple(value) for value in known.values()}
        if len(distinct) > 1:
            raise ValueError(
                f"DATASETS.TEST names {', '.join(known)}, whose {key} differ: a model that holds a "
                "context numbers its results by one of them; leave that one there"
            )
        return list(distinct.pop()) if distinct else []


def _positions(context: Context, classes: Sequence[str]) -> list[int]:
    """Of each entity, its position among the classes, by name; in the context where there are
    none, or where entities have no names."""
    if not classes or not any(context.names):
        if classes and len(context) > len(classes):
            raise ValueError(
                f"the context has {len(context)} entities without names, and the data set "
                f"{len(classes)} classes"
            )
        return list(range(len(context)))
    for name in context.names:
        if name not in classes:
            shown = ", ".join(classes[:8]) + (", …" if len(classes) > 8 else "")
            raise ValueError(
                f"the context's entity {name!r} is no class of DATASETS.TEST, which has {shown}: "
                "drop it (Context.drop), or give references and classes the same names"
            )
    positions = {name: i for i, name in enumerate(classes)}
    return [positions[str(name)] for name in context.names]
