#!/usr/bin/env python
"""Write the clips that video settings are chosen on: their files, and masks of six frames of each.

python datasets/prepare_video_validation.py [--output datasets/video_validation] [--clips DIR]

A folder per clip as ``tools/evaluate_clip.py`` reads it: NNNNN.png, the label map of frame NNNNN,
clip.json, and beside them the clip. The masks stand in video_validation.json as polygons. The clips
come from packages, as the photographs of prepare_real_validation.py do, and are checked by hash.
--toys writes the toys beside them, for which nothing is needed: folders of pictures in frames/.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segic_d2.io.video_masks import write_video_mask
from segic_d2.utils.files import whole_folder

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prepare_real_validation import make_mask, photographs  # noqa: E402

LIST = Path(__file__).resolve().parent / "video_validation.json"
UP = 4  # pixels of a toy's picture for one of tests/predictor/clips.py
FRAMES, SCORED, AWAY = range(29), (0, 5, 15, 22, 25, 28), range(10, 20)


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
    with whole_folder(output) as part:
        for name, about in clips.items():
            folder = part / name
            folder.mkdir(parents=True)
            shutil.copyfile(files[name], folder / about["file"])
            told = {k: about[k] for k in ("file", "sha256", "size", "objects")}
            (folder / "clip.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
            for number, marked in about["frames"].items():
                labels = label_map(marked, tuple(about["size"]))
                write_video_mask(folder / f"{int(number):05}.png", labels)
    return [output / name for name in clips]


def toys():
    """{name: (picture, label map) of each frame} of two disks that pass each other while one is
    hidden: alike on two paths, and on one, and of two colours."""
    sys.path.insert(0, str(LIST.parents[1]))
    from tests.predictor.clips import alike, frame, labels

    def shown(number, hidden):
        return tuple(i for i in (1, 3) if i != hidden or number not in AWAY)

    return {
        "toy_two_paths": [alike(n, shown(n, 3), 20) for n in FRAMES],
        "toy_one_path": [alike(n, shown(n, 1), 0) for n in FRAMES],
        "toy_two_colours": [(frame(n, shown(n, 3)), labels(n, shown(n, 3))) for n in FRAMES],
    }


def write_toys(output):
    """Write the toys into new folders. FileExistsError: one is there already."""
    written = []
    for name, pairs in toys().items():
        folder = Path(output) / name
        (folder / "frames").mkdir(parents=True)
        for number, (picture, labels) in enumerate(pairs):
            large = [x.repeat(UP, 0).repeat(UP, 1) for x in (picture, labels)]
            Image.fromarray(large[0]).save(folder / f"frames/{number:05}.png")
            if number in SCORED:
                write_video_mask(folder / f"{number:05}.png", large[1])
        written.append(folder)
    return written


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="datasets/video_validation", help="a new folder")
    parser.add_argument("--clips", help="folder with the clips, by their names")
    parser.add_argument("--toys", action="store_true", help="the toys alone, into --output")
    args = parser.parse_args(argv)
    try:
        if args.toys:
            written = write_toys(args.output)
        else:
            written = write(json.loads(LIST.read_text(encoding="utf-8")), args.output, args.clips)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
