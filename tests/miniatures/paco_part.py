"""A tiny PACO-LVIS: objects and their parts in its JSON files, COCO 2017's images, pickles."""

import json
import pickle

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

SIZE = (44, 60)  # height, width
OBJECTS = {1: "mug", 2: "lamp"}
PARTS = {  # category id → name; the last is in no training image
    **{100 + i: f"mug:{p}" for i, p in enumerate(["handle", "rim", "body", "base", "inside"])},
    **{200 + i: f"lamp:{p}" for i, p in enumerate(["shade", "cable", "switch", "bulb"])},
    300: "lamp:finial",
}
RARE = 202  # lamp:switch, in one validation image
IMAGES = 4
BOXES = {1: [(2.5, 3.25, 20.0, 16.5), (28, 20, 22, 18)], 2: [(30, 2, 24, 15)]}  # x, y, w, h


def name(image):
    return f"{'train' if image == 3 else 'val'}2017/{image + 1:012d}.jpg"


def part_box(owner, k):
    """x, y, w, h of the k-th part of an object with a box: some reach out of the object."""
    x, y, w, h = owner
    return int(x) + 3 * k - 2, int(y) + 2 * k, 7, 5


def rle(x, y, w, h):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[y : y + h, x : x + w] = 1
    encoded = mask_util.encode(mask)
    return {"size": list(SIZE), "counts": encoded["counts"].decode("ascii")}


def annotations(split):
    """Every image shows two mugs and a lamp with all their parts, a mug's rim in two masks."""
    found = []

    def add(image, category, bbox, segmentation, owner=None):
        number = len(found) + 11
        found.append(
            {
                "id": number,
                "image_id": image + 1,
                "category_id": category,
                "bbox": list(bbox),
                "area": bbox[2] * bbox[3],
                "segmentation": segmentation,
                "obj_ann_id": owner or number,
            }
        )
        return number

    for image in range(IMAGES):
        for object_id, boxes in BOXES.items():
            for box in boxes:
                x, y, w, h = box
                owner = add(image, object_id, box, [[x, y, x + w, y, x + w, y + h, x, y + h]])
                parts = [c for c, n in PARTS.items() if n.startswith(OBJECTS[object_id])]
                for k, part in enumerate(parts):
                    if (part == RARE and split == "val" and image) or part == 300:
                        continue
                    shape = part_box(box, k)
                    add(image, part, shape, rle(*shape), owner)
                    if part == 101:
                        shape = shape[0] + 8, shape[1] + 6, 4, 4
                        add(image, part, shape, rle(*shape), owner)
    return found


def make(root):
    """Write ``paco/paco_lvis_v1_{train,val}.json`` and the images below ``coco``."""
    for image in range(IMAGES):
        path = root / "coco" / name(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(image).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    (root / "paco").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        data = {
            "images": [
                {"id": i + 1, "file_name": name(i), "height": SIZE[0], "width": SIZE[1]}
                for i in range(IMAGES)
            ],
            "annotations": annotations(split),
            "categories": [
                *({"id": i, "name": n, "supercategory": "OBJECT"} for i, n in OBJECTS.items()),
                *({"id": i, "name": n, "supercategory": "PART"} for i, n in PARTS.items()),
            ],
        }
        (root / f"paco/paco_lvis_v1_{split}.json").write_text(json.dumps(data))


def publish(root):
    """Write ``paco/paco_part_{train,val}.pkl``; every class names its first image twice."""
    for split in ("train", "val"):
        content = {"cid2img": {}, "img2anno": {}}
        objects = {a["id"]: a for a in annotations(split)}
        for a in annotations(split):
            if a["category_id"] in PARTS:
                image = a["image_id"]
                images = content["cid2img"].setdefault(a["category_id"], [])
                entry = {image: f"coco/images/{name(image - 1)}"}
                images += [entry, entry] if not images else [] if entry in images else [entry]
                box = objects[a["obj_ann_id"]]["bbox"]
                content["img2anno"].setdefault(image, []).append({**a, "obj_bbox": box})
        (root / f"paco/paco_part_{split}.pkl").write_bytes(pickle.dumps(content))
