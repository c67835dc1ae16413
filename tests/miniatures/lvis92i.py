"""A tiny LVIS v1 validation set: LVIS's JSON, images that are COCO 2017's, Matcher's pickle."""

import json
import pickle

import numpy as np
from PIL import Image

SIZE = (40, 48)  # height, width
CATEGORIES = 23  # of ids 1, 3, 5, …: the last has no image, the last but one a single image
IMAGES = 6


def box(image, category):
    """x, y, w, h of the two instances of a category in an image; the second overlaps the first."""
    x, y = 2 + 3 * (category % 7), 2 + 4 * image
    return (x, y, 10, 8), (x + 6, y + 2, 12, 6)


def name(image):
    """Two of three images are of val2017; LVIS's validation set has images of both folders."""
    return f"{'train' if image % 3 == 2 else 'val'}2017/{image + 1:012d}.jpg"


def polygon(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def images_of(position):
    """Indices of the images of the category at a position of the list."""
    if position >= CATEGORIES - 2:
        return [2][: CATEGORIES - 1 - position]
    return [position % IMAGES, (position + 1) % IMAGES, (position + 3) % IMAGES][: 2 + position % 2]


def annotations():
    """LVIS's list of annotations, image by image."""
    found = []
    for image in range(IMAGES):
        for position in range(CATEGORIES):
            for x, y, w, h in box(image, position) if image in images_of(position) else ():
                found.append(
                    {
                        "id": len(found) + 1,
                        "image_id": image + 1,
                        "category_id": 1 + 2 * position,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "segmentation": polygon(x, y, w, h),
                    }
                )
    return found


def make(root):
    """Write ``lvis/lvis_v1_val.json`` and the images below ``coco``."""
    for image in range(IMAGES):
        path = root / "coco" / name(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(image).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    data = {
        "info": {},
        "licenses": [],
        "images": [
            {
                "id": image + 1,
                "coco_url": f"http://images.cocodataset.org/{name(image)}",
                "height": SIZE[0],
                "width": SIZE[1],
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
            for image in range(IMAGES)
        ],
        "annotations": annotations(),
        "categories": [
            {
                "id": 1 + 2 * i,
                "name": f"thing{i}",
                "synonyms": [f"thing_{i}", "stuff"],
                "synset": f"thing.n.{i:02d}",
                "def": "",
                "frequency": "c",
            }
            for i in range(CATEGORIES)
        ],
    }
    (root / "lvis").mkdir(parents=True, exist_ok=True)
    (root / "lvis/lvis_v1_val.json").write_text(json.dumps(data))


def publish(root):
    """Write ``lvis/lvis_val.pkl``, classes and images in an order of its own."""
    content = {}
    for a in reversed(annotations()):
        images = content.setdefault(a["category_id"], {})
        entry = images.setdefault(name(a["image_id"] - 1), {"annotations": []})
        entry["annotations"].append({"segmentation": a["segmentation"]})
    (root / "lvis/lvis_val.pkl").write_bytes(pickle.dumps(content))
