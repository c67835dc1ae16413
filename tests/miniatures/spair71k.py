"""SPair-71k in miniature: two categories of three pictures, all ordered pairs of each."""

import contextlib
import itertools
import json

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data.datasets.spair import SPLITS, register_all_spair

CATEGORIES = ("aeroplane", "tvmonitor")
# sizes (h, w) of each category's pictures, and where the object is: x, y, w, h
PICTURES = (((60, 90), (10, 8, 60, 40)), ((90, 60), (6, 20, 48, 50)), ((80, 80), (16, 16, 40, 48)))
POINTS = np.array([[0.1, 0.1], [0.9, 0.2], [0.5, 0.5], [0.3, 0.9]])  # of the object's box


def keypoints(picture):
    (_, (x, y, w, h)) = PICTURES[picture]
    return np.rint(POINTS * [w, h] + [x, y]).astype(int).tolist()


def make(root):
    """Write ``SPair-71k``: all test pairs of each category, one of training and of validation."""
    home = root / "SPair-71k"
    rng = np.random.default_rng(0)
    pairs = {split: [] for split in SPLITS}
    for category in CATEGORIES:
        folder = home / "JPEGImages" / category
        folder.mkdir(parents=True)
        colors = rng.integers(0, 256, (4, 3), dtype=np.uint8)
        for i, ((height, width), (x, y, w, h)) in enumerate(PICTURES):
            pixels = rng.integers(100, 156, (height, width, 3), dtype=np.uint8)
            quarter = colors.reshape(2, 2, 3).repeat((h + 1) // 2, 0).repeat((w + 1) // 2, 1)
            pixels[y : y + h, x : x + w] = quarter[:h, :w]
            Image.fromarray(pixels).save(folder / f"2008_{i:06d}.jpg", quality=95)
        ordered = list(itertools.permutations(range(len(PICTURES)), 2))
        for split, chosen in (("test", ordered), ("trn", ordered[:1]), ("val", ordered[:1])):
            for source, target in chosen:
                _pair(home, split, category, source, target, pairs[split])
    for split, names in pairs.items():
        layout = home / "Layout" / "large" / f"{split}.txt"
        layout.parent.mkdir(parents=True, exist_ok=True)
        layout.write_text("".join(f"{name}\n" for name in names))


def _pair(home, split, category, source, target, names):
    files = [f"2008_{i:06d}" for i in (source, target)]
    name = f"{len(names) + 1:06d}-{files[0]}-{files[1]}:{category}"
    about = {"filename": name, "category": category, "pair_id": len(names)}
    for side, i, file in (("src", source, files[0]), ("trg", target, files[1])):
        (height, width), (x, y, w, h) = PICTURES[i]
        about[f"{side}_imname"] = f"{file}.jpg"
        about[f"{side}_imsize"] = [width, height, 3]
        about[f"{side}_bndbox"] = [x, y, x + w, y + h]
        about[f"{side}_kps"] = keypoints(i)
    path = home / "PairAnnotation" / split / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about))
    names.append(name)


@contextlib.contextmanager
def registered(root):
    """``spair71k_*`` for a while looked for below another root."""
    before = {}
    for split in SPLITS:
        name = f"spair71k_{split}"
        before[name] = DatasetCatalog.pop(name), MetadataCatalog.pop(name)
    register_all_spair(str(root))
    yield root
    for name, (load, metadata) in before.items():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        DatasetCatalog.register(name, load)
        MetadataCatalog[name] = metadata
