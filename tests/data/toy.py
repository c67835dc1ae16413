"""Tiny datasets on disk, in the three record forms, for the tests of this folder."""

import json
import uuid

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image

from segic_d2.config.load import load_config
from segic_d2.data import register_folder_dataset
from segic_d2.data.records import class_masks
from tests.tiny import SEGIC

NAMES = ["red thing", "green thing", "blue thing"]
SIZE = (48, 64)  # height, width


def config(train=(), **opts):
    """A small config; keyword a__b sets A.B."""
    flat = [x for k, v in opts.items() for x in (k.upper().replace("__", "."), v)]
    base = ["INPUT.CANVAS", 56, "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 4]
    cfg = load_config(opts=[*SEGIC, *base, *flat])
    cfg.DATASETS.TRAIN = tuple(train)
    return cfg


def scenes(number=8, seed=0):
    """Images with three rectangles each, of class i, i+1 (mod 3) and i: (image, [(class, box)])."""
    rng = np.random.default_rng(seed)
    for i in range(number):
        image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        boxes = [(4 + i, 4, 16, 14), (30, 6 + i, 12, 12), (10, 28, 20, 14)]  # x, y, w, h
        objects = list(zip((i % 3, (i + 1) % 3, i % 3), boxes, strict=True))
        for class_id, (x, y, w, h) in objects:
            image[y : y + h, x : x + w] = np.eye(3, dtype=np.uint8)[class_id] * 255
        yield image, objects


def class_mask(record, class_id):
    """``class_masks`` of one class: bool mask (H, W), and bool ignore (H, W) or None."""
    masks, ignore = class_masks(record, [class_id])
    return masks[0], ignore


def label_map(objects):
    labels = np.zeros(SIZE, np.uint8)
    for class_id, (x, y, w, h) in objects:
        labels[y : y + h, x : x + w] = class_id + 1
    labels[:2] = 255
    return labels


def unique(form):
    return f"toy_{form}_{uuid.uuid4().hex[:8]}"


def coco(folder, number=8):
    """COCO instances: polygons, one RLE and one crowd per dataset."""
    images, annotations = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, (image, objects) in enumerate(scenes(number)):
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
        images.append({"id": 100 + i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]})
        for class_id, (x, y, w, h) in objects:
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + i,
                    "category_id": 11 + class_id,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [polygon],
                }
            )
    crowd = np.zeros(SIZE, np.uint8)
    crowd[40:, 50:] = 1
    runs = np.flatnonzero(np.diff(crowd.T.ravel(), prepend=0, append=0)).tolist()
    counts = np.diff([0, *runs, crowd.size]).tolist()
    annotations.append(
        {
            "id": len(annotations) + 1,
            "image_id": 100,
            "category_id": 11,
            "bbox": [50, 40, 14, 8],
            "area": 112,
            "iscrowd": 1,
            "segmentation": {"counts": counts, "size": list(SIZE)},
        }
    )
    categories = [{"id": 11 + i, "name": n} for i, n in enumerate(NAMES)]
    (folder / "coco.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    name = unique("coco")
    register_coco_instances(name, {}, str(folder / "coco.json"), str(folder / "images"))
    return name


def sem_seg(folder, number=8):
    records = []
    (folder / "semseg").mkdir(parents=True, exist_ok=True)
    for i, (image, objects) in enumerate(scenes(number)):
        files = folder / "semseg" / f"{i}.jpg", folder / "semseg" / f"{i}.png"
        Image.fromarray(image).save(files[0])
        Image.fromarray(label_map(objects)).save(files[1])
        records.append({"file_name": str(files[0]), "sem_seg_file_name": str(files[1])})
    name = unique("sem_seg")
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(stuff_classes=["background", *NAMES], ignore_label=255)
    return name


def folder_a(folder, number=6):
    for i, (image, objects) in enumerate(scenes(number)):
        class_id, (x, y, w, h) = objects[0]
        home = folder / "a" / NAMES[class_id].replace(" ", "_")
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{i}.jpg")
        mask = np.zeros(SIZE, np.uint8)
        mask[y : y + h, x : x + w] = 255
        Image.fromarray(mask).save(home / f"{i}.png")
    name = unique("folder_a")
    register_folder_dataset(name, folder / "a")
    return name


def folder_b(folder, number=6, classes=True):
    for kind in ("images", "masks"):
        (folder / "b" / kind).mkdir(parents=True, exist_ok=True)
    for i, (image, objects) in enumerate(scenes(number)):
        Image.fromarray(image).save(folder / "b" / "images" / f"{i}.jpg")
        Image.fromarray(label_map(objects)).save(folder / "b" / "masks" / f"{i}.png")
    if classes:
        lines = [f"{i + 1} {n}" for i, n in enumerate(NAMES)]
        (folder / "b" / "classes.txt").write_text("\n".join(lines) + "\n")
    name = unique("folder_b")
    register_folder_dataset(name, folder / "b")
    return name


FORMS = {"coco": coco, "sem_seg": sem_seg, "folder_a": folder_a, "folder_b": folder_b}
