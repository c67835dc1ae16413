"""FSS-1000: a folder per class, names with apostrophes, ten images with grey or coloured masks."""

import numpy as np
from PIL import Image

CLASSES = ["bus", "abe's_flyingfish", "hotel_slipper"]
SIZE = 56  # the published images are 224×224 px


def make(root):
    """Write FSS-1000/ below a folder: three test classes, one mask in colour, soft edges."""
    home, rng = root / "FSS-1000", np.random.default_rng(2)
    for c, name in enumerate(CLASSES):
        (home / name).mkdir(parents=True)
        for i in range(1, 11):
            pixels = rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
            mask = np.zeros((SIZE, SIZE), np.uint8)
            mask[9 + i : 30 + i, 9:41] = 127  # a soft edge, background by the rule
            mask[10 + i : 29 + i, 10:40] = 128 if i == 1 else 255
            pixels[mask > 127] = np.eye(3, dtype=np.uint8)[c] * 255
            Image.fromarray(pixels).save(home / name / f"{i}.jpg")
            drawn = Image.fromarray(mask)
            (drawn.convert("RGB") if i == 2 else drawn).save(home / name / f"{i}.png")
    (home / "splits").mkdir()
    (home / "splits" / "test.txt").write_text("\n".join(CLASSES) + "\n")
