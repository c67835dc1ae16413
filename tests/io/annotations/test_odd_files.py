"""Files with odd values anywhere: each is read or refused with a line that names it.

python -m tests.io.annotations.test_odd_files SEED NUMBER
"""

import base64
import copy
import io
import json
import random
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from segic_d2.io.annotations import read_annotations
from segic_d2.io.annotations.brush import encode_brush
from segic_d2.io.rle import encode
from tests.io.annotations import (
    parts,
    test_coco,
    test_cvat,
    test_labelme,
    test_labelstudio,
    test_voc,
    test_vos,
    test_yolo,
)

VALUES = [None, "", "7", -1, 0, 1e9, float("nan"), float("inf"), True, [], {}, [1, 2], "x" * 5]
VALUES += [[[1, 2, 3]], {"a": 1}, 1.5, 2**70, 10**400, [None], "\ud800", [[]]]
TOKENS = [b"nan", b"-1", b"1e309", b"9" * 30, b"", b"\xff\xfe", b"\0", b"[", b"{", b": ", b"&x;"]
TOKENS += [b"<a>", b"\n", b"-", b"3.5"]


def places(value, path=()):
    """The paths to all values of a JSON content."""
    if path:
        yield path
    pairs = value.items() if isinstance(value, dict) else ()
    pairs = enumerate(value[:6]) if isinstance(value, list) else pairs
    for key, inner in pairs:
        yield from places(inner, (*path, key))


def changed(content, rng):
    """A JSON content with one value lost, doubled or replaced."""
    content = copy.deepcopy(content)
    *way, last = rng.choice(list(places(content)))
    holder = content
    for key in way:
        holder = holder[key]
    what = rng.random()
    if what < 0.15 and isinstance(holder, dict):
        del holder[last]
    elif what < 0.25 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[last]))
    else:
        holder[last] = copy.deepcopy(rng.choice(VALUES))
    return content


def scrambled(data, rng):
    """Bytes of which a few are replaced."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(data))
        odd = rng.choice(TOKENS) if rng.random() < 0.7 else bytes([rng.randrange(256)])
        data[at : at + rng.choice([0, 1, 1, 2, 5])] = odd
    return bytes(data)


def png(mask):
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def exports(root):
    """[(name, a file of it, contents of it, or None where its bytes are scrambled)]."""
    shape, result = test_labelme.shape, test_labelstudio.result
    masks = ({"size": [40, 60], "counts": [2400]}, encode(parts.box(3, 3, 9, 9)))
    files = [test_coco.content(), *(test_coco.content(segmentation=m) for m in masks)]
    test_coco.load(root / "coco", files[0])
    yield f"coco:{root}/coco/c.json:{root}/coco/images", root / "coco" / "c.json", files
    square = test_labelme.SQUARE
    shapes = [shape("cat", square, group_id=1), shape("cat", square, group_id=1)]
    shapes += [shape("dog", [[20, 20], [20, 28]], "circle")]
    name = test_labelme.export(root / "labelme", shapes)
    file = root / "labelme" / "labels" / "a.json"
    yield name, file, [json.loads(file.read_text())]
    brush = {"format": "rle", "rle": encode_brush(parts.noise()), "brushlabels": ["fur"]}
    results = test_labelstudio.polygon(), result("brushlabels", brush)
    name = test_labelstudio.export(root / "labelstudio", *results)
    file = root / "labelstudio" / "export.json"
    yield name, file, [json.loads(file.read_text())]
    data = base64.b64encode(png(parts.box(0, 0, 8, 6, (6, 8)))).decode()
    patch = shape("cat", [[2, 3], [9, 8]], "mask", mask=data)
    name = test_labelme.export(root / "patches", [patch, shape("dog", square)])
    file = root / "patches" / "labels" / "a.json"
    yield name, file, [json.loads(file.read_text())]
    name = test_yolo.roboflow(root / "yolo")
    yield name, root / "yolo" / "data.yaml", None
    yield name, root / "yolo" / "train" / "labels" / "train.rf.01.txt", None
    mask = '<mask label="cat" rle="1, 2, 1, 4" left="50" top="30" width="4" height="2"></mask>'
    name = test_cvat.export(root / "cvat", test_cvat.POLYGON, mask)
    yield name, root / "cvat" / "annotations.xml", None
    (root / "voc").mkdir()
    name = test_voc.kit(root / "voc")
    parts.write(root / "voc" / "labelmap.txt", test_voc.LABELMAP)
    yield name, root / "voc" / "labelmap.txt", None
    yield name, root / "voc" / "SegmentationClass" / "a.png", None
    folder = root / "folder"
    parts.picture(folder / "images" / "a.jpg")
    parts.picture(folder / "masks" / "a.png")
    parts.write(folder / "classes.txt", "1 cat\n2 dog\n")
    yield f"folder:{folder}", folder / "classes.txt", None
    yield f"folder:{folder}", folder / "masks" / "a.png", None
    test_vos.clip(root / "vos", "dog", 2)
    yield f"vos:{root}/vos", root / "vos" / "Annotations" / "dog" / "00000.png", None


def lines_of(name):
    """The faults of a name, or the line that refuses it."""
    try:
        found = read_annotations(name)
    except (ValueError, OSError) as error:
        return [str(error)]
    lines = list(found.faults)
    for picture in found:
        try:
            picture.masks()
        except ValueError as error:  # of a label map, which is read now
            lines.append(str(error))
    return lines


def run(root, seed, number):
    """Read ``number`` changed files; returns how many had a fault."""
    rng, forms, faulty = random.Random(seed), list(exports(root)), 0
    whole = {file: file.read_bytes() for _, file, _ in forms}
    for _ in range(number):
        name, file, contents = rng.choice(forms)
        if contents is None:
            file.write_bytes(scrambled(whole[file], rng))
        else:
            file.write_text(json.dumps(changed(rng.choice(contents), rng)))
        lines = lines_of(name)
        for line in lines:
            assert "\n" not in line and str(root) in line, (file.read_bytes()[:2000], line)
        faulty += bool(lines)
        file.write_bytes(whole[file])
    return faulty


@pytest.mark.slow
def test_odd_values_are_faults_that_name_the_file(tmp_path):
    assert 300 < run(tmp_path, 0, 1000) < 1000


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(run(Path(folder), *map(int, sys.argv[1:3])), "had a fault")
