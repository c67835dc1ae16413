"""COCO 2014 as COCO-20i reads it: images, instance annotations, label maps and pickled lists."""

import json
import pickle

import numpy as np
from detectron2.data import MetadataCatalog
from PIL import Image

IMAGES, SIZE = 6, (64, 80)  # 80 cells of 8×8 px, each an object


def file_name(i):
    return f"COCO_val2014_{i + 1:012d}.jpg"


def shows(i, class_id):
    """Each class is in four of six images."""
    return (i + class_id) % 3 != 0


def cell(i, class_id):
    """(x, y) of the 6×6-px object of a class; it wanders from image to image."""
    place = (class_id + 7 * i) % 80
    return 8 * (place % 10), 8 * (place // 10)


def make(root, lists=True, label_maps=True):
    """Write coco/ below a folder: IMAGES images that show every class of COCO, one crowd."""
    home, rng = root / "coco", np.random.default_rng(0)
    metadata = MetadataCatalog.get("coco_2014_val")
    ids = list(metadata.thing_dataset_id_to_contiguous_id)
    (home / "val2014").mkdir(parents=True)
    (home / "annotations").mkdir()
    images, annotations = [], []
    for i in range(IMAGES):
        pixels = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        labels = np.zeros(SIZE, np.uint8)
        for class_id in filter(lambda c: shows(i, c), range(80)):
            x, y = cell(i, class_id)
            labels[y : y + 6, x : x + 6] = class_id + 1
            pixels[y : y + 6, x : x + 6] = (3 * class_id, 255 - 3 * class_id, 40 * (class_id % 6))
            annotations.append(_object(len(annotations), i, ids[class_id], (x, y, 6, 6)))
        Image.fromarray(pixels).save(home / "val2014" / file_name(i))
        images.append({"id": i + 1, "file_name": file_name(i), "height": SIZE[0], "width": SIZE[1]})
        if label_maps:
            folder = home / "annotations" / "val2014"
            folder.mkdir(exist_ok=True)
            Image.fromarray(labels).save(folder / file_name(i).replace(".jpg", ".png"))
    annotations.append(_crowd(len(annotations), 0, ids[1]))
    categories = [{"id": c, "name": n} for c, n in zip(ids, metadata.thing_classes, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (home / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    if lists:
        (home / "splits" / "coco" / "val").mkdir(parents=True)
        for fold in range(4):
            path = home / "splits" / "coco" / "val" / f"fold{fold}.pkl"
            path.write_bytes(pickle.dumps(split(fold)))


def split(fold):
    """Class → image names, empty for the classes of other folds, as published."""
    return {
        c: [f"val2014/{file_name(i)}" for i in reversed(range(IMAGES)) if shows(i, c)]
        if c % 4 == fold
        else []
        for c in range(80)
    }


def _object(number, image, category, box):
    x, y, w, h = box
    return {
        "id": number + 1,
        "image_id": image + 1,
        "category_id": category,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def _crowd(number, image, category):
    """The last column of an image, as uncompressed RLE."""
    height, width = SIZE
    found = _object(number, image, category, (width - 1, 0, 1, height))
    counts = [height * (width - 1), height]
    return {**found, "iscrowd": 1, "segmentation": {"size": list(SIZE), "counts": counts}}
