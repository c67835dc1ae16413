"""Composites: cut-out photographs and rendered models in front of photographs, with exact masks.

``datasets/prepare_composites.py`` writes them to ``$DETECTRON2_DATASETS/composites`` as
``{train,seen,novel}/`` with ``images/00001.jpg``, ``instances.json`` (COCO, a category per kind of
thing) and ``objects.json`` (the same masks, a category per object), registered as

- ``composites_{train,seen,novel}``: the reference shows something of the category, also the same
  object again;
- ``composites_{train,seen,novel}_others``: only categories with several objects, and the reference
  shows another one than the target;
- ``composites_{train,seen,novel}_objects``: a class per object, so the reference shows the same one
  in another scene, and in another view where it has several;
- each of these with ``_large`` behind it: a class that covers less than 4 % of a scene is not asked
  for in it, as it seldom is in a photograph. It is a distractor there.
"""

import json
import os
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json

from ...utils.files import AnyPath
from .coco_folds import with_classes

SPLITS = ("train", "seen", "novel", "choice_train", "choice_val")
FORMS = {"": "instances.json", "_others": "instances.json", "_objects": "objects.json"}
FORMS |= {f"{form}_large": file for form, file in FORMS.items()}
LARGE = 0.04  # share of the scene


def load_composites(name: str, folder: AnyPath, file: AnyPath) -> list[dict[str, Any]]:
    """The dataset dicts of a split; annotations also have ``object``, the number of the object.
    FileNotFoundError: naming the file, and the script that makes it; ValueError: naming the file
    that is damaged."""
    path = Path(folder) / file
    if not path.is_file():
        raise FileNotFoundError(
            f"dataset {name!r}: no file {path}; python datasets/prepare_composites.py"
            f"{' --choice' if '_choice_' in name else ''} makes it in $DETECTRON2_DATASETS"
        )
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"dataset {name!r}: {path} is no JSON: {error}") from error
    records = load_coco_json(str(path), str(Path(folder) / "images"), name, ["object"])
    if "_others" in name:
        records = _of_several(records)
    if name.endswith("_large"):
        records = _with_large(records)
    # a class that no scene shows is no damage: which ones are shown is drawn
    shown = {
        c for r in records for c in r.get("only", [a["category_id"] for a in r["annotations"]])
    }
    MetadataCatalog.get(name).kept_classes = sorted(shown)
    return records


def _of_several(records):
    """The records without annotations of categories that have a single object."""
    objects = defaultdict(set)
    for a in (a for record in records for a in record["annotations"]):
        objects[a["category_id"]].add(a["object"])
    several = {category for category, found in objects.items() if len(found) > 1}
    return with_classes(records, several)


def _with_large(records):
    """The records that show a class on ``LARGE`` of the scene, with ``only`` these classes."""
    kept = []
    for record in records:
        areas = defaultdict(float)
        for a in record["annotations"]:
            share = mask_util.area(a["segmentation"]) / (record["height"] * record["width"])
            areas[a["category_id"]] += share
        large = sorted(c for c, area in areas.items() if area >= LARGE)
        if large:
            kept.append({**record, "only": large})
    return kept


def register_composites(root: AnyPath, prefix: str = "composites") -> None:
    """Register the splits below a folder of datasets. They are read when they are first loaded."""
    for split in SPLITS:
        folder = os.path.join(root, "composites", split)
        for end, file in FORMS.items():
            name = f"{prefix}_{split}{end}"
            DatasetCatalog.register(name, partial(load_composites, name, folder, file))
            MetadataCatalog.get(name).set(
                json_file=os.path.join(folder, file),
                image_root=os.path.join(folder, "images"),
                evaluator_type="one_shot",
                other_objects="_others" in end,
            )
