"""What was found in a picture → what others read: COCO's annotations, supervision, JSON, files.

Shapes: N entities, H×W the picture.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as mask_util

from ..utils.files import AnyPath
from .rle import encode

SUFFIXES = (".png", ".jpg", ".jpeg", ".json")  # of files that hold a result


class Found(NamedTuple):
    """The N entities that have pixels.

    Attributes:
        categories: what each is one of; of entities their ids, of instances those of their
            entities. boxes: float (N, 4), left, upper, right and lower edge in px. masks: bool
            (N, H, W).
    """

    ids: list[int]
    names: list[str | None]
    categories: list[int]
    scores: list[float]
    boxes: np.ndarray
    masks: np.ndarray


def to_coco(found: Found) -> list[dict[str, Any]]:
    """Annotations as in COCO's files and lists of results, without "id" and "image_id": those are
    of the file that holds them."""
    annotations = []
    for category, score, mask in zip(found.categories, found.scores, found.masks, strict=True):
        rle = encode(mask)
        about = {"category_id": category, "score": score, "iscrowd": 0}
        bbox, area = mask_util.toBbox(rle).tolist(), int(mask_util.area(rle))
        annotations.append({**about, "bbox": bbox, "area": area, "segmentation": rle})
    return annotations


def to_json(found: Found, file_name: str, size: tuple[int, int]) -> str:
    """JSON text: "file" (null where the picture came from none), "height" and "width", and
    "entities", each with "id", "category_id", "name", "score", "box" (left, upper, right, lower
    edge, px), "area" (px) and "segmentation" (COCO's RLE)."""
    entities = []
    for i, name, box, one in zip(found.ids, found.names, found.boxes, to_coco(found), strict=True):
        about = {"id": i, "category_id": one["category_id"], "name": name, "score": one["score"]}
        about |= {"box": box.tolist(), "area": one["area"], "segmentation": one["segmentation"]}
        entities.append(about)
    about = {"file": file_name or None, "height": size[0], "width": size[1], "entities": entities}
    text = json.dumps(about, ensure_ascii=False, indent=1)
    try:
        text.encode()
    except UnicodeEncodeError:  # a file name that is no UTF-8
        return json.dumps(about, indent=1)
    return text


def to_supervision(found: Found) -> Any:
    """supervision's ``Detections``, names in ``data["class_name"]``; ImportError: it is missing."""
    try:
        from supervision import Detections
    except ImportError as error:
        raise ImportError(
            f"to_supervision needs the package supervision ({error}): "
            "pip install 'segic_d2[supervision]'"
        ) from error
    names = zip(found.names, found.categories, strict=True)
    return Detections(
        xyxy=found.boxes.astype(np.float32),
        mask=found.masks,
        confidence=np.array(found.scores, np.float32),
        class_id=np.array(found.categories, int),
        data={"class_name": np.array([str(name or i) for name, i in names], dtype=str)},
    )


def destination(path: AnyPath, source: str) -> Path:
    """Where a result goes. ValueError: a suffix that holds none, or the picture ``source``, which
    is never overwritten."""
    place = Path(path)
    if place.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"cannot save a result as {os.fspath(path)!r}: .png, .jpg and .jpeg take the overlay, "
            ".json takes all that was found"
        )
    if source and place.exists() and os.path.exists(source) and place.samefile(source):
        raise ValueError(f"{os.fspath(path)!r} is the picture itself: give the result another name")
    return place
