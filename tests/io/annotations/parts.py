"""Pictures and hand-written exports for the tests of this folder."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from segic_d2.io.annotations import Annotated, Thing, read_annotations
from segic_d2.io.rle import encode

SIZE = (40, 60)  # height, width


def picture(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)
    return path


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")
    return path


def box(left, top, right, bottom, size=SIZE):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


def ring_with_a_hole():
    """A frame, an island in its hole, and a part of its own beside it."""
    mask = box(4, 4, 30, 30)
    mask[8:26, 8:26] = False
    return mask | box(14, 14, 20, 20) | box(40, 10, 50, 33)


def noise(seed=0):
    """Many parts and holes, some of which touch at corners."""
    return np.random.default_rng(seed).random(SIZE) < 0.5


def annotated(folder, number=2):
    """Pictures with things of all shapes, as what is to be written."""
    names = ["cat", "Käfer & <co>"]
    found = []
    for i in range(number):
        file = picture(folder / f"p{i}.jpg")
        masks = [ring_with_a_hole(), noise(i), box(0, 0, 60, 40)]
        things = [Thing(j % 2, encode(mask)) for j, mask in enumerate(masks)]
        found.append(Annotated(str(file), SIZE, names, things, i))
    found.append(Annotated(str(picture(folder / "empty.png")), SIZE, names, [], number))
    return found


def read(name):
    """A set without faults."""
    found = read_annotations(name)
    assert found.faults == []
    return found


def masks_of(found):
    """[{class: its pixels}] of each picture, by its file's stem."""
    return {Path(picture.file_name).stem: picture.masks() for picture in found}
