"""Loads Detectron2's LVIS datasets without the package ``lvis``, whose OpenCV needs a display."""

import json
import os
from collections import defaultdict

from detectron2.data import MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager


def load_lvis(name):
    """Load the dataset dicts that Detectron2's own loader would make, sorted by image id.

    Args:
        name: one of Detectron2's, e.g. ``"lvis_v1_train"``; its metadata says where the files are.

    Returns:
        list of dict ``file_name`` (by the last two parts of ``coco_url``), ``image_id``,
        ``height``, ``width``, ``not_exhaustive_category_ids``, ``neg_category_ids``, and
        ``annotations`` with ``bbox``, ``bbox_mode``, ``category_id`` (contiguous) and
        ``segmentation`` (polygons).

    Raises:
        FileNotFoundError: naming the JSON file.
    """
    metadata = MetadataCatalog.get(name)
    if not PathManager.isfile(metadata.json_file):
        raise FileNotFoundError(f"dataset {name!r}: no such file: {metadata.json_file}")
    with PathManager.open(metadata.json_file) as file:
        data = json.load(file)
    contiguous = metadata.get("thing_dataset_id_to_contiguous_id")  # of COCO's classes in LVIS
    annotations = defaultdict(list)
    for a in data["annotations"]:
        category = a["category_id"]
        annotations[a["image_id"]].append(
            {
                "bbox": a["bbox"],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": contiguous[category] if contiguous else category - 1,
                "segmentation": a["segmentation"],
            }
        )
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
