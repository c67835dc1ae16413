"""VOC 2012 with SegmentationClassAug, as PASCAL-5i reads it."""

import numpy as np
from PIL import Image

IMAGES, SIZE, BORDER = 6, (60, 75), 255


def file_name(i):
    return f"2007_{i + 1:06d}"


def make(root):
    """Write VOC2012/ below a folder: each image shows all twenty classes, edged with 255."""
    home, rng = root / "VOC2012", np.random.default_rng(1)
    for folder in ("JPEGImages", "SegmentationClassAug", "splits/pascal/val"):
        (home / folder).mkdir(parents=True)
    for i in range(IMAGES):
        labels = np.zeros(SIZE, np.uint8)
        pixels = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        for class_id in range(20):
            x, y = 15 * ((class_id + i) % 5), 15 * (class_id // 5)
            labels[y + 1 : y + 13, x + 1 : x + 13] = BORDER
            labels[y + 2 : y + 12, x + 2 : x + 12] = class_id + 1
            pixels[y + 2 : y + 12, x + 2 : x + 12] = (12 * class_id, 200, 255 - 12 * class_id)
        Image.fromarray(pixels).save(home / "JPEGImages" / f"{file_name(i)}.jpg")
        Image.fromarray(labels).save(home / "SegmentationClassAug" / f"{file_name(i)}.png")
    for fold in range(4):
        lines = [f"{file_name(i)}__{c + 1:02d}" for i, c in entries(fold)]
        path = home / "splits" / "pascal" / "val" / f"fold{fold}.txt"
        path.write_text("\n".join(lines) + "\n")


def entries(fold):
    """(image, class id): every image with two or three of the fold's classes."""
    return [(i, c) for i in range(IMAGES) for c in range(5 * fold, 5 * fold + 5) if (i + c) % 2]
