#!/usr/bin/env python
"""Write the clips that video settings are chosen on: their files, and masks of six frames of each.

python datasets/prepare_video_validation.py [--output datasets/video_validation] [--clips DIR]

A folder per clip as ``tools/evaluate_clip.py`` reads it: NNNNN.png, the label map of frame NNNNN,
clip.json, and beside them the clip. The masks stand in video_validation.json as polygons. The clips
come from packages, as the photographs of prepare_real_validation.py do, and are checked by hash.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from segic_d2.io.video_masks import write_video_mask

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prepare_real_validation import make_mask, photographs  # noqa: E402

LIST = Path(__file__).resolve().parent / "video_validation.json"


def label_map(marked, size):
    """The label map of a frame, uint8 (h, w), for a ``size`` (w, h): later masks lie over earlier
    ones. ValueError: see ``make_mask``."""
    labels = np.zeros(size[::-1], np.uint8)
    for one in marked:
        labels[make_mask({"picture": f"object {one['id']}", **one}, size)] = one["id"]
    return labels


def write(content, output, given=None):
    """Write all clips of a list into a new folder, whole or not at all.

    Args:
        content: of video_validation.json. given: folder where the clips may lie, by their names.

    Raises:
        FileExistsError: the folder is there already. FileNotFoundError, ValueError: see
        ``photographs``, ``label_map``.
    """
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} is there already; remove it, or give another --output")
    clips = content["clips"]
    files = photographs({**content, "pictures": clips}, given, "--clips")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as part:
        for name, about in clips.items():
            folder = Path(part) / "all" / name
            folder.mkdir(parents=True)
            shutil.copyfile(files[name], folder / about["file"])
            told = {k: about[k] for k in ("file", "sha256", "size", "objects")}
            (folder / "clip.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
            for number, marked in about["frames"].items():
                labels = label_map(marked, tuple(about["size"]))
                write_video_mask(folder / f"{int(number):05}.png", labels)
        os.replace(Path(part) / "all", output)
    return [output / name for name in clips]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="datasets/video_validation", help="a new folder")
    parser.add_argument("--clips", help="folder with the clips, by their names")
    args = parser.parse_args(argv)
    try:
        written = write(json.loads(LIST.read_text(encoding="utf-8")), args.output, args.clips)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
