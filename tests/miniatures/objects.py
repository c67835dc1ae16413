"""Pictures of coloured rectangles on noise, and COCO's annotations of them."""

import json

import numpy as np
from PIL import Image

SIZE = (48, 64)  # height, width
BOXES = ((4, 4, 16, 14), (34, 6, 14, 12), (12, 28, 18, 14))  # x, y, w, h


def color(category_id):
    """The colour of a category, the same in every picture."""
    return np.random.default_rng(category_id).integers(0, 256, 3, dtype=np.uint8)


def picture(path, categories, seed):
    """Write a JPEG whose i-th box shows the i-th category."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(90, 166, (*SIZE, 3), dtype=np.uint8)
    for (x, y, w, h), category in zip(BOXES, categories, strict=True):
        pixels[y : y + h, x : x + w] = color(category)
    Image.fromarray(pixels).save(path, quality=95)


def annotation(number, image_id, category, box):
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category,
        "bbox": [x, y, w, h],
        "area": w * h,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
    }


def annotations(shown):
    """{image id: categories of its boxes} → annotations, numbered from 1."""
    rows = [(i, c, b) for i, cs in shown.items() for c, b in zip(cs, BOXES, strict=True)]
    return [annotation(n + 1, *row) for n, row in enumerate(rows)]


def write_json(path, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
