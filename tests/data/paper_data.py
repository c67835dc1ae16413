"""Miniature copies of the paper's training data, in the formats and folders of the real ones."""

import contextlib
import json
import os

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import builtin
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image

from segic_d2.data.datasets.fss import register_all_fss

COCO = [c for c in COCO_CATEGORIES if c["isthing"]]  # ids 1 to 90, of which 80 are used
SIZE = (48, 64)  # height, width
OBJECTS = 14  # per COCO and LVIS image: more than an episode takes


_current = [os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))]


@contextlib.contextmanager
def registered(root):
    """Detectron2's built-in names and FSS-1000, for a while looked for below another root.

    Args:
        root: as $DETECTRON2_DATASETS.
    """
    _current.append(root)
    _register(_current[-1])
    yield root
    _current.pop()
    _register(_current[-1])


def _register(root):
    for name in list(DatasetCatalog):
        if name.startswith(("coco_2", "keypoints_coco", "lvis_", "ade20k_", "fss_1000_")):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    builtin.register_all_coco(str(root))
    builtin.register_all_lvis(str(root))
    builtin.register_all_ade20k(str(root))
    register_all_fss(str(root))


def _boxes():
    """Fourteen 7x7 px boxes in two rows: x, y, w, h."""
    return [(2 + 9 * (i % 7), 4 + 22 * (i // 7), 7, 7) for i in range(OBJECTS)]


def _image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def _annotations(images, categories, extra):
    """Fourteen polygons per image, of the given list of category ids per image."""
    annotations = []
    for image, ids in zip(images, categories, strict=True):
        for (x, y, w, h), category in zip(_boxes(), ids, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    **extra,
                }
            )
    return annotations


def coco(root, year, split="train", number=20):
    """Images 0…19; image i shows the classes 4i … 4i + 13 (mod 80), once each."""
    prefix = f"COCO_{split}{year}_" if year == 2014 else ""
    images = []
    for i in range(number):
        file = f"{prefix}{i + 1:012d}.jpg"
        _image(root / f"coco/{split}{year}" / file, (year, i))
        images.append({"id": i + 1, "file_name": file, "height": SIZE[0], "width": SIZE[1]})
    shown = [[COCO[(4 * i + k) % 80]["id"] for k in range(OBJECTS)] for i in range(number)]
    annotations = _annotations(images, shown, {"iscrowd": 0})
    crowd = {"size": list(SIZE), "counts": [SIZE[0] * 60, SIZE[0] * 4]}  # the last four columns
    annotations.append(
        {
            "id": len(annotations) + 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [60, 0, 4, SIZE[0]],
            "area": 4 * SIZE[0],
            "iscrowd": 1,
            "segmentation": crowd,
        }
    )
    categories = [{k: c[k] for k in ("id", "name")} for c in COCO]
    _json(root / f"coco/annotations/instances_{split}{year}.json", images, annotations, categories)


def lvis(root, number=6):
    """Images that are COCO 2017's, found by their coco_url; three classes per image."""
    images = []
    for i in range(number):
        file = f"{i + 1:012d}.jpg"
        if not (root / "coco/train2017" / file).exists():
            _image(root / "coco/train2017" / file, (2017, i))
        images.append(
            {
                "id": i + 1,
                "coco_url": f"http://images.cocodataset.org/train2017/{file}",
                "height": SIZE[0],
                "width": SIZE[1],
                "neg_category_ids": [7],
                "not_exhaustive_category_ids": [],
            }
        )
    shown = [[1 + (400 * (k % 3) + i) % 1203 for k in range(OBJECTS)] for i in range(number)]
    categories = [{"id": i + 1, "name": f"c{i}"} for i in range(1203)]
    _json(root / "lvis/lvis_v1_train.json", images, _annotations(images, shown, {}), categories)


def _json(path, images, annotations, categories):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    path.write_text(text)


def ade20k(root, number=6):
    """The label maps as downloaded: 0 unlabelled, classes from 1. Image i: 1, 2, 3 + i//2."""
    for split, prefix in (("training", "ADE_train_"), ("validation", "ADE_val_")):
        for i in range(number):
            folder = root / "ADEChallengeData2016"
            _image(folder / f"images/{split}/{prefix}{i:08d}.jpg", i)
            labels = np.zeros(SIZE, np.uint8)
            labels[:16], labels[16:32], labels[32:44] = 1, 2, 3 + i // 2
            path = folder / f"annotations/{split}/{prefix}{i:08d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(labels).save(path)


def fss(root, classes):
    (root / "FSS-1000" / "splits").mkdir(parents=True, exist_ok=True)
    (root / "FSS-1000" / "splits" / "trn.txt").write_text("\n".join(classes))
    for number, name in enumerate(classes):
        for i in range(1, 11):
            folder = root / "FSS-1000" / name
            _image(folder / f"{i}.jpg", (number, i))
            mask = np.zeros((*SIZE, 3), np.uint8)
            mask[10:30, 10:40] = 255
            Image.fromarray(mask).save(folder / f"{i}.png")
