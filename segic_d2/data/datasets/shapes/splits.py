"""The splits of the embedded dataset: which categories there are, and how images become files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask
from PIL import Image

from ....utils.files import AnyPath, whole_folder, write_picture
from .render import render_scene

SIZES = {"train": 400, "seen": 80, "novel": 80}  # images per split
SEED = 0

_TRAIN_TEXTURES = ("fur", "wood", "tissue", "galaxy", "script", "engine", "shelf", "suit")
_TRAIN_TEXTURES += ("retina", "night", "scales", "concrete", "vessels", "slats", "saucer", "gauze")
_TRAIN_FAMILIES = ("star", "ring", "disc", "triangle", "cross", "crescent", "arrow", "slab")
_NOVEL_TEXTURES = ("grass", "gravel", "print", "brick", "lawn", "flag", "crater", "stroma")
_NOVEL_FAMILIES = ("heart", "horse", "flower", "bolt", "key", "fish", "gear", "arch")


@dataclass(frozen=True)
class Vocabulary:
    """Named (texture, family) pairs, one per texture, and what distractors may be made of."""

    categories: tuple[tuple[str, str], ...]
    textures: tuple[str, ...]
    families: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        return [f"{texture} {family}" for texture, family in self.categories]


_TRAIN = Vocabulary(
    tuple(zip(_TRAIN_TEXTURES, 2 * _TRAIN_FAMILIES, strict=True)), _TRAIN_TEXTURES, _TRAIN_FAMILIES
)
_NOVEL = Vocabulary(
    tuple(zip(_NOVEL_TEXTURES, _NOVEL_FAMILIES, strict=True)), _NOVEL_TEXTURES, _NOVEL_FAMILIES
)
VOCABULARIES = {"train": _TRAIN, "seen": _TRAIN, "novel": _NOVEL}


def generate(
    root: AnyPath, num_train: int = 400, num_seen: int = 80, num_novel: int = 80, seed: int = SEED
) -> None:
    """Write all splits under root; a split of 0 images is left out. Deterministic; about 25 ms per
    image on one core. ValueError: naming a negative size, or a root that already holds a split."""
    sizes = {"train": num_train, "seen": num_seen, "novel": num_novel}
    for split, size in sizes.items():
        if size < 0:
            raise ValueError(f"num_{split} is {size}; it must be 0 or more")
        if (Path(root) / split).exists():
            raise ValueError(f"{Path(root) / split} exists already; generate into a new folder")
    for index, (split, size) in enumerate(sizes.items()):
        if size:
            with whole_folder(Path(root) / split) as folder:
                _write_split(folder, VOCABULARIES[split], size, (seed, index))


def _write_split(folder, vocabulary, size, seed):
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    lines = [f"{i} {name}\n" for i, name in enumerate(vocabulary.names, 1)]
    (folder / "classes.txt").write_text("".join(lines))
    count = len(vocabulary.categories)
    images, annotations = [], []
    for i in range(size):
        # a generator per image: the first scenes of a split do not depend on its size
        scene = render_scene(vocabulary, i % count + 1, np.random.default_rng((*seed, i)))
        stem = f"{i + 1:04d}"
        write_picture(folder / "images" / f"{stem}.jpg", Image.fromarray(scene.image), quality=92)
        table = np.array([0, *(t.category for t in scene.things)], np.uint8)
        write_picture(folder / "masks" / f"{stem}.png", Image.fromarray(table[scene.owner]))
        record, found = _describe(scene, i + 1, len(annotations) + 1)
        images.append({**record, "file_name": f"{stem}.jpg"})
        annotations += found
    categories = [{"id": i, "name": name} for i, name in enumerate(vocabulary.names, 1)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(coco))


def _describe(scene, image_id, first_id):
    """COCO's record of an image, which also lists the distractors, and its annotations."""
    height, width = scene.owner.shape
    record = {"id": image_id, "height": height, "width": width, "distractors": []}
    annotations = []
    for number, thing in enumerate(scene.things, 1):
        rle = pycocotools.mask.encode(np.asfortranarray(scene.owner == number, np.uint8))
        area = int(pycocotools.mask.area(rle))
        if thing.category:
            annotations.append(
                {
                    "id": first_id + len(annotations),
                    "image_id": image_id,
                    "category_id": thing.category,
                    "bbox": pycocotools.mask.toBbox(rle).tolist(),
                    "area": area,
                    "iscrowd": 0,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                }
            )
        if thing.distracts:
            looks = {"looks": f"{thing.texture} {thing.family}", "area": area}
            record["distractors"].append({"of": thing.distracts, "shares": thing.kind, **looks})
    return record, annotations
