"""A-847: 16-bit TIFFs of labels 0…846, 65535 ignored; label 0 is "wall"."""

import numpy as np

from tests.miniatures.pictures import save, scene

CLASSES = ["wall", "building, edifice", *(f"thing {i}" for i in range(2, 847))]
SHOWN = [(0, 1), (1, 846), (0, 300, 846), (1, 300)]  # per image, in both splits
IGNORED = 65535


def make(root):
    """ADE20K_2021_17_01 with four images per split."""
    home = root / "ADE20K_2021_17_01"
    for seed, (split, name) in enumerate((("training", "train"), ("validation", "val"))):
        for i, classes in enumerate(SHOWN):
            stem = f"ADE_{name}_{i + 1:08d}"
            image, labels = scene(classes, (847, seed, i), IGNORED, IGNORED)
            files = (
                home / "images_detectron2" / split / f"{stem}.jpg",
                home / "annotations_detectron2" / split / f"{stem}.tif",
            )
            save(*files, image, labels, np.uint16)
    (home / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    return home
