#!/usr/bin/env python
"""Write the validation part of PASCAL-Part's annotations as one JSON file in COCO's form.

python datasets/prepare_pascal_part.py [VOCdevkit/VOC2010]

The folder holds Annotations_Part/*.mat, as downloaded, and VOC 2010's ImageSets/Main/val.txt;
pascal_part_val.json is written beside them. Left and right, front and back, upper and lower parts
and numbered copies are one part: "lflleg" is a LEG, "wheel_2" a WHEEL. Classes are "object+PART",
in the order of the images; boxes are those of the objects' masks. Needs scipy.
"""

import argparse
import json
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util

from segic_d2.utils.files import write_whole

# the part's name without a number at its end → the part; other names stay as they are
MERGED = {
    r"[lr](eye|ear|horn|wing|foot|hand)": r"\1",
    r"[lr]ebrow": "eyebrow",
    r"[lr][ul]arm": "arm",
    r"[lr][fb]?[ul]?leg": "leg",
    r"[lr][fb]pa": "paw",
    r"[lr][fb]ho": "hoof",
    r"[fb]wheel": "wheel",
    r"[fb]liplate": "plate",
    r"(left|right)mirror": "mirror",
    r"[hc]?(front|back|left|right|roof)side": "side",
}


def merged(part_name):
    """The class's part that a part of the annotations belongs to, in capitals."""
    name = re.sub(r"_\d+$", "", part_name)
    for pattern, part in MERGED.items():
        found = re.fullmatch(pattern, name)
        if found:
            return found.expand(part).upper()
    return name.upper()


def read(path):
    """Read one .mat file: (height, width), and per object with parts its class, its box
    (x, y, w, h) and a dict part → bool mask (H, W). ValueError names a file of another form."""
    from scipy.io import loadmat

    try:
        annotation = loadmat(path, squeeze_me=True, struct_as_record=False)["anno"]
        size, objects = None, []
        for entry in np.atleast_1d(annotation.objects):
            size, parts = entry.mask.shape, {}
            for part in np.atleast_1d(entry.parts):
                name = merged(str(part.part_name))
                parts[name] = parts.get(name, False) | (part.mask > 0)
            y, x = (np.flatnonzero(entry.mask.any(axis)) for axis in (1, 0))
            if parts and len(y):
                box = [x[0], y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]]
                objects.append((str(getattr(entry, "class")), [int(v) for v in box], parts))
    except Exception as error:  # a damaged file fails in scipy in many ways
        raise ValueError(f"cannot read {path} as PASCAL-Part's annotation: {error!r}") from error
    return size, [
        (name, box, {part: _encode(mask) for part, mask in parts.items() if mask.any()})
        for name, box, parts in objects
    ]


def _encode(mask):
    rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(v) for v in rle["size"]], "counts": rle["counts"].decode("ascii")}


def collect(names, contents):
    """Make COCO's three lists from image names and what ``read`` found in each."""
    images, annotations, categories, number = [], [], {}, 0
    for i, (name, (size, objects)) in enumerate(zip(names, contents, strict=True), 1):
        if size is None:
            continue
        images.append({"id": i, "file_name": f"{name}.jpg", "height": size[0], "width": size[1]})
        for object_name, box, parts in objects:
            number += 1
            for part, segmentation in parts.items():
                category = categories.setdefault(f"{object_name}+{part}", len(categories) + 1)
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i,
                        "category_id": category,
                        "segmentation": segmentation,
                        "obj_ann_id": number,
                        "obj_bbox": box,
                    }
                )
    categories = [{"id": i, "name": name} for name, i in categories.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def main(argv=None):
    default = Path(os.getenv("DETECTRON2_DATASETS", "datasets")) / "VOCdevkit" / "VOC2010"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=default)
    root = parser.parse_args(argv).root
    list_file, folder = root / "ImageSets/Main/val.txt", root / "Annotations_Part"
    for path in (list_file, folder):
        if not path.exists():
            print(f"error: no {'file' if path == list_file else 'folder'} {path}", file=sys.stderr)
            return 1
    names = list_file.read_text(encoding="utf-8").split()
    files = [folder / f"{name}.mat" for name in names]
    missing = [f for f in files if not f.is_file()]
    if missing:
        print(
            f"error: {len(missing)} of {len(files)} files are missing, such as {missing[0]}",
            file=sys.stderr,
        )
        return 1
    try:
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            data = collect(names, pool.map(read, files, chunksize=16))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    target = root / "pascal_part_val.json"
    write_whole(target, json.dumps(data))
    print(
        f"{target}: {len(data['images'])} images, {len(data['annotations'])} parts of "
        f"{len(data['categories'])} classes"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
