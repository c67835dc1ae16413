#!/usr/bin/env python
"""Write label maps of COCO's 80 things: 0 where none is, 1…80 by class, 255 in crowds (ignored).

python datasets/prepare_coco_semantic.py [val] [train]

Reads coco/annotations/instances_{val,train}2017.json below $DETECTRON2_DATASETS (default
./datasets) and writes coco/semantic_{val,train}2017/*.png. Evaluation needs val only (5,000 maps).
Where objects overlap, the smaller one is seen. Existing files are kept.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segic_d2.data.index import load_records
from segic_d2.io.rle import decode, has_mask
from segic_d2.utils.files import write_picture

BACKGROUND, IGNORED = 0, 255


def paint(record):
    """Paint the label map of an image's objects.

    Where objects overlap, the smaller one is painted over the larger one, which would hide it. A
    crowd is ignored, because nobody knows how much of it is its class; objects in it are painted.

    Args:
        record: dataset dict with ``height``, ``width`` and ``annotations`` of classes below 254.

    Returns:
        uint8 array (H, W): 0 where nothing is, c + 1 of class c, 255 ignored.
    """
    height, width = record["height"], record["width"]
    labels = np.full((height, width), BACKGROUND, np.uint8)
    objects = []
    for annotation in record["annotations"]:
        crowd = bool(annotation.get("iscrowd")) and "segmentation" in annotation
        if crowd or has_mask(annotation):
            mask = decode(annotation["segmentation"], height, width, record["file_name"])
            value = IGNORED if crowd else annotation["category_id"] + 1
            objects.append((crowd, int(mask.sum()), mask, value))
    objects.sort(key=lambda x: (not x[0], -x[1]))  # crowds, then from large to small
    for *_, mask, value in objects:
        labels[mask] = value
    return labels


def write(split):
    """Write the label maps of a split; returns their folder and how many were written."""
    records = load_records(f"coco_2017_{split}")
    images = Path(records[0]["file_name"]).parent
    folder = images.parent / f"semantic_{split}2017"
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for record in records:
        target = folder / (Path(record["file_name"]).stem + ".png")
        if not target.is_file():
            write_picture(target, Image.fromarray(paint(record)))
            written += 1
    return folder, written


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("splits", nargs="*", default=["val"], help="val (default), train")
    for split in parser.parse_args(argv).splits:
        if split not in ("val", "train"):
            parser.error(f"{split!r} is neither val nor train")
        try:
            folder, written = write(split)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{folder}: {written} label maps written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
