"""PC-459: 16-bit TIFFs of labels 0…458, 65535 ignored, of half of VOC 2010's images."""

import numpy as np
from PIL import Image

from tests.miniatures.pictures import SIZE, save, scene

CLASSES = ["accordion", "aeroplane", *(f"object {i}" for i in range(2, 459))]
SHOWN = [(0, 1), (255, 458), (1, 458), (0, 255)]  # 255 is a class here
IGNORED = 65535


def make(root):
    """VOCdevkit/VOC2010 with four images per split and one without labels."""
    home = root / "VOCdevkit" / "VOC2010"
    for seed, split in enumerate(("train", "val")):
        for i, classes in enumerate(SHOWN):
            stem = f"200{8 + seed}_{i:06d}"
            image, labels = scene(classes, (459, seed, i), IGNORED, IGNORED)
            label_file = home / "annotations_detectron2" / f"pc459_{split}" / f"{stem}.tif"
            save(home / "JPEGImages" / f"{stem}.jpg", label_file, image, labels, np.uint16)
    Image.new("RGB", SIZE[::-1]).save(home / "JPEGImages" / "2010_000001.jpg")
    lines = [f"{i + 1}: {name}" for i, name in enumerate(CLASSES)]  # as the data set's own list
    (home / "pc459_classes.txt").write_text("\n".join(lines) + "\n")
    return home
