"""COCO-20i folds of any dataset with COCO's 80 classes, by a suffix of its name.

``coco_2014_train@fold0`` is for training: without the classes f + 4v, v = 0…19, of fold f = 0
(COCO's contiguous ids), whose pixels are background wherever they appear. ``coco_2014_val@novel0``
is for testing: those 20 classes alone.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

NAME = re.compile(r"(?P<base>.+)@(?P<side>fold|novel)(?P<fold>\d+)")
FOLDS = 4
CLASSES = 80


def fold_classes(fold: int) -> list[int]:
    """The 20 contiguous ids that a fold holds out for testing."""
    return [fold + FOLDS * v for v in range(CLASSES // FOLDS)]


def register_fold(name: str, base: str, side: str, fold: int) -> None:
    """Register one side of a fold, ``"fold"`` (the 60 classes of training) or ``"novel"`` (the 20
    held out), of a registered dataset of COCO's form, with COCO's ids and names. Images that have
    none of the side are left out. ValueError: no such fold; when loaded: the classes are not
    COCO's."""
    if not 0 <= fold < FOLDS:
        raise ValueError(f"dataset {name!r}: COCO-20i has the folds 0 to {FOLDS - 1}")
    novel = set(fold_classes(fold))
    keep = novel if side == "novel" else set(range(CLASSES)) - novel
    DatasetCatalog.register(name, lambda: _load(name, base, keep))
    names = MetadataCatalog.get("coco_2017_train").thing_classes
    MetadataCatalog.get(name).set(
        base=base, thing_classes=names, evaluator_type="one_shot", kept_classes=sorted(keep)
    )


def _load(name, base, keep):
    names = MetadataCatalog.get(name).thing_classes
    if not MetadataCatalog.get(base).get("thing_classes"):  # known when it was loaded
        DatasetCatalog.get(base)
    if MetadataCatalog.get(base).get("thing_classes") != names:
        raise ValueError(
            f"dataset {name!r}: the classes of {base!r} are not COCO's {CLASSES}, which the folds "
            "of COCO-20i divide"
        )
    return with_classes(DatasetCatalog.get(base), keep)


def with_classes(records: Iterable[dict[str, Any]], keep: Collection[int]) -> list[dict[str, Any]]:
    """The records of COCO's form that show some classes, without annotations of all others."""
    kept = (
        {**r, "annotations": [a for a in r["annotations"] if a["category_id"] in keep]}
        for r in records
    )
    return [r for r in kept if r["annotations"]]
