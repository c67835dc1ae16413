"""Loads Detectron2's LVIS datasets without the package ``lvis``, whose OpenCV needs a display."""

import json
import os
from collections import defaultdict
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager


def load_lvis(name: str) -> list[dict[str, Any]]:
    """Load the dataset dicts that Detectron2's own loader of e.g. ``"lvis_v1_train"`` would make
    from the files that its metadata name, sorted by image id. FileNotFoundError: naming the JSON
    file."""
    metadata = MetadataCatalog.get(name)
    if not PathManager.isfile(metadata.json_file):
        raise FileNotFoundError(f"dataset {name!r}: no such file: {metadata.json_file}")
    with PathManager.open(metadata.json_file) as file:
        try:
            data = json.load(file)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{metadata.json_file} is no JSON: {error}") from error
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id")  # of COCO's classes in LVIS
    annotations = defaultdict(list)
    for a in data["annotations"]:
        category = contiguous[a["category_id"]] if contiguous else a["category_id"] - 1
        box = {"bbox": a["bbox"], "bbox_mode": BoxMode.XYWH_ABS}
        annotation = {**box, "category_id": category, "segmentation": a["segmentation"]}
        annotations[a["image_id"]].append(annotation)
    return [
        {
            "file_name": os.path.join(metadata.image_root, *image["coco_url"].split("/")[-2:]),
            "height": image["height"],
            "width": image["width"],
            "not_exhaustive_category_ids": image.get("not_exhaustive_category_ids", []),
            "neg_category_ids": image.get("neg_category_ids", []),
            "image_id": image["id"],
            "annotations": annotations[image["id"]],
        }
        for image in sorted(data["images"], key=lambda image: image["id"])
    ]
