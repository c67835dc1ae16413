"""COCO 2017's instances, of which label maps are painted: overlaps, a crowd, an empty image."""

import json

import numpy as np
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image

from tests.miniatures.pictures import SIZE, colour

THINGS = [c for c in COCO_CATEGORIES if c["isthing"]]  # ids up to 90, of which 80 are used
BOXES = [(2, 2, 28, 30), (20, 8, 14, 12), (36, 4, 10, 16)]  # x, y, w, h; the second on the first
SHOWN = [(0, 1, 79), (1, 0, 79), (79, 0, 1), ()]  # contiguous classes of the boxes


def make(root):
    """coco/{annotations,train2017,val2017} with four images per split, the last without objects."""
    for seed, split in enumerate(("train", "val")):
        images, annotations = [], []
        folder = root / "coco" / f"{split}2017"
        folder.mkdir(parents=True, exist_ok=True)
        for i, classes in enumerate(SHOWN):
            file = f"{1000 * seed + i + 1:012d}.jpg"
            pixels = np.random.default_rng((seed, i)).integers(0, 60, (*SIZE, 3))
            for class_id, (x, y, w, h) in zip(classes, BOXES, strict=False):
                pixels[y : y + h, x : x + w] = colour(class_id)
                polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
                annotations.append(_annotation(annotations, i, class_id, (x, y, w, h), [polygon]))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / file, quality=95)
            size = {"height": SIZE[0], "width": SIZE[1]}
            images.append({"id": i + 1, "file_name": file, **size})
        runs = {"size": list(SIZE), "counts": [SIZE[0] * 26, SIZE[0] * 6, SIZE[0] * 16]}
        crowd = _annotation(annotations, 0, 0, (26, 0, 6, SIZE[0]), runs)  # six columns
        annotations.append({**crowd, "iscrowd": 1})
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{k: c[k] for k in ("id", "name")} for c in THINGS],
        }
        path = root / "coco" / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return root / "coco"


def _annotation(before, image, class_id, box, segmentation):
    return {
        "id": len(before) + 1,
        "image_id": image + 1,
        "category_id": THINGS[class_id]["id"],
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        "segmentation": segmentation,
    }
