"""A tiny PASCAL-Part: VOC 2010's tree, one .mat file per image, the published list of parts."""

import json

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (42, 56)  # height, width
# image → objects: class, box (x, y, w, h), parts by name with their boxes
IMAGES = {
    "2008_000003": [
        ("dog", (4, 4, 20, 16), {"head": (4, 4, 8, 8), "lfleg": (6, 14, 3, 6)}),
        ("dog", (30, 10, 22, 24), {"head": (44, 10, 6, 6), "rblleg": (31, 28, 4, 6)}),
        ("tvmonitor", (0, 30, 9, 9), {"screen": (1, 31, 6, 6)}),
    ],
    "2008_000008": [
        ("dog", (8, 8, 30, 28), {"head": (10, 9, 9, 9), "lfleg": (12, 28, 3, 7)}),
        ("cat", (40, 2, 12, 12), {"lear": (41, 2, 3, 3), "rear": (47, 2, 3, 3)}),
        ("chair", (0, 0, 6, 6), {}),
    ],
    "2008_000015": [
        ("aeroplane", (2, 20, 40, 14), {"tail": (2, 20, 5, 5), "wheel_1": (10, 30, 3, 3)}),
        ("bottle", (46, 4, 8, 20), {"cap": (48, 4, 4, 3), "body": (46, 8, 8, 16)}),
        ("person", (10, 0, 14, 18), {"hair": (12, 0, 8, 4), "llarm": (10, 8, 3, 8)}),
    ],
    "2008_000019": [
        ("aeroplane", (6, 10, 40, 20), {"tail": (6, 10, 5, 5), "wheel_2": (20, 26, 3, 3)}),
        ("bottle", (2, 4, 10, 30), {"cap": (5, 4, 4, 3), "body": (2, 8, 9, 25)}),
        ("person", (30, 2, 20, 36), {"hair": (34, 2, 8, 5), "ruarm": (30, 14, 4, 8)}),
    ],
}
PARTS = {  # published: super-class → object class → part → images
    "animals": {"dog": {"HEAD": [0, 1], "LEG": [1, 0]}},
    "indoor": {"bottle": {"BODY": [3, 2], "CAP": [2, 3]}},
    "person": {"person": {"ARM": [2, 3]}},
    "vehicles": {"aeroplane": {"TAIL": [2, 3], "WHEEL": [2, 3]}},
}


def filled(box, size=SIZE):
    x, y, w, h = box
    mask = np.zeros(size, np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def structs(entries, fields):
    """A MATLAB struct array (1, n)."""
    array = np.empty((1, len(entries)), dtype=[(f, object) for f in fields])
    for i, entry in enumerate(entries):
        array[0, i] = tuple(entry)
    return array


def make(root):
    """Write ``VOCdevkit/VOC2010`` as downloaded; datasets/prepare_pascal_part.py does the rest."""
    home = root / "VOCdevkit/VOC2010"
    for folder in ("JPEGImages", "Annotations_Part", "ImageSets/Main"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "ImageSets/Main/val.txt").write_text("".join(f"{name}\n" for name in IMAGES))
    for seed, (name, objects) in enumerate(IMAGES.items()):
        pixels = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(home / f"JPEGImages/{name}.jpg")
        entries = []
        for number, (kind, box, parts) in enumerate(objects, 1):
            parts = [(part, filled(shape)) for part, shape in parts.items()]
            parts = structs(parts, ["part_name", "mask"]) if parts else np.zeros((0, 0))
            entries.append((kind, float(number), filled(box), parts))
        objects = structs(entries, ["class", "class_ind", "mask", "parts"])
        anno = structs([(name, objects)], ["imname", "objects"])
        savemat(home / f"Annotations_Part/{name}.mat", {"anno": anno}, do_compression=True)


def publish(root):
    """Write ``all_obj_part_to_image.json``."""
    names = list(IMAGES)
    content = {
        super_class: {
            "object": {
                kind: {
                    "part": {
                        part: {"train": [], "val": [names[i] for i in images]}
                        for part, images in parts.items()
                    }
                }
                for kind, parts in objects.items()
            }
        }
        for super_class, objects in PARTS.items()
    }
    (root / "VOCdevkit/VOC2010/all_obj_part_to_image.json").write_text(json.dumps(content))
