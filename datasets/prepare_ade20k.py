#!/usr/bin/env python
"""Write ADE20K's label maps as Detectron2 reads them: class 0…149, 255 where nothing is labelled.

python datasets/prepare_ade20k.py [ADEChallengeData2016]

The folder holds annotations/{training,validation}/*.png as downloaded, with 0 for unlabelled pixels
and classes from 1; annotations_detectron2/ is written beside it. Existing files are kept.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from segic_d2.utils.files import write_picture

CLASSES = 150


def convert(source, target):
    """Convert one label map. ValueError names a file that is not ADE20K's."""
    with Image.open(source) as image:
        labels = np.array(image)
    if labels.dtype != np.uint8 or labels.ndim != 2 or labels.max() > CLASSES:
        raise ValueError(f"{source} is no label map of {CLASSES} classes")
    write_picture(target, Image.fromarray(labels - np.uint8(1)))  # 0 becomes 255


def main(argv=None):
    default = Path(os.getenv("DETECTRON2_DATASETS", "datasets")) / "ADEChallengeData2016"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=default)
    root = parser.parse_args(argv).root
    for split in ("training", "validation"):
        source, target = (root / f"annotations{end}" / split for end in ("", "_detectron2"))
        if not source.is_dir():
            print(f"error: no folder {source}", file=sys.stderr)
            return 1
        target.mkdir(parents=True, exist_ok=True)
        files = sorted(f for f in source.glob("*.png") if not (target / f.name).is_file())
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow codes outside the GIL
                list(pool.map(convert, files, [target / f.name for f in files]))
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"{target}: {len(files)} label maps written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
