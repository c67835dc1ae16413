"""ADE20K-150 as downloaded: 8-bit PNGs of 0 (unlabelled) and 1…150, to be converted."""

import numpy as np

from tests.miniatures.pictures import save, scene

SHOWN = [(1, 2), (2, 150), (1, 150, 40), (40, 2)]


def make(root):
    """ADEChallengeData2016 with four images per split."""
    home = root / "ADEChallengeData2016"
    for seed, (split, name) in enumerate((("training", "train"), ("validation", "val"))):
        for i, classes in enumerate(SHOWN):
            stem = f"ADE_{name}_{i + 1:08d}"
            image, labels = scene(classes, (150, seed, i), 0, 0)
            files = home / "images" / split / f"{stem}.jpg", home / "annotations" / split
            save(files[0], files[1] / f"{stem}.png", image, labels, np.uint8)
    return home
