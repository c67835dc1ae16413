#!/usr/bin/env python
"""Write clips in which a thing passes behind another one: it must vanish, and be found again.

    python datasets/prepare_hidden_videos.py [--output datasets/hidden_videos] [--photographs DIR]
    python tools/evaluate_clip.py --video NAME/frames --masks NAME

Cut-outs of the photographs of prepare_real_validation.py lie over another photograph: object 1 goes
from left to right behind a bus or a car in the middle, object 3 stays in the open. A folder per
scene: frames/NNNNN.png, and NNNNN.png, the label map, of six frames; in one object 1 is hidden.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from segic_d2.io.video_masks import write_video_mask
from segic_d2.utils.files import whole_folder

sys.path.insert(0, str(Path(__file__).resolve().parent))
from prepare_real_validation import LIST, make_mask, make_picture, photographs  # noqa: E402

SIZE, FRAMES, SCORED = (480, 320), 40, (0, 4, 20, 34, 37, 39)
SIDES = 100, 90, 230  # px, the longer sides of object 1, object 3, and what stands before object 1
SCENES = {  # the ground, then (picture, class) of these three
    "robin": ("garden", ("robin", "bird"), ("kitten", "cat"), ("red_bus", "bus")),
    "rabbit": ("plant", ("rabbit_1", "rabbit"), ("football", "ball"), ("double_decker", "bus")),
    "dog": ("moto_left", ("chicky", "dog"), ("aloe", "pot"), ("double_decker", "bus")),
    "box": ("board_1", ("box", "cookie_box"), ("orange", "orange"), ("suv_beige", "car")),
    "goldfish": ("meadow", ("goldfish", "fish"), ("camera", "camera"), ("red_bus", "bus")),
    "eagle": ("canteen", ("eagle", "bird"), ("yellow", "flower"), ("double_decker", "bus")),
}


def cut_out(picture, entry, side):
    """What a mask marks, as an RGBA picture whose longer side has ``side`` px."""
    mask = make_mask(entry, picture.size)
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    found = picture.copy()
    found.putalpha(Image.fromarray(mask.astype(np.uint8) * 255))
    found = found.crop([int(x) for x in box])
    scale = side / max(found.size)
    return found.resize([round(x * scale) for x in found.size], Image.LANCZOS)


def frame(number, ground, things):
    """A frame, a picture, and its label map, uint8 (h, w)."""
    share = number / (FRAMES - 1)
    (width, height), picture = SIZE, ground.copy()
    x, y = 50 + share * (width - 100), 200 + 8 * np.sin(number / 4)
    places = (1, 0, (x, y)), (0, 2, (width / 2, 200)), (3, 1, (60 + share * 100, 70))
    labels = Image.new("L", (width, height))
    for i, row, (x, y) in places:
        thing = things[row]
        corner = round(x - thing.width / 2), round(y - thing.height / 2)
        alpha = thing.getchannel("A")
        picture.paste(thing.convert("RGB"), corner, alpha)
        labels.paste(i, corner, alpha.point(lambda value: 255 * (value > 127)))
    return picture, np.asarray(labels)


def write(content, output, given=None, scenes=SCENES):
    """Write all scenes into a new folder, whole or not at all.

    Args:
        content: of real_validation.json. given: folder where the photographs may lie.

    Raises:
        FileExistsError: the folder is there already. FileNotFoundError, ValueError: see
        ``photographs``, ``make_mask``.
    """
    output = Path(output)
    if output.exists():
        raise FileExistsError(f"{output} is there already; remove it, or give another --output")
    wanted = {ground for ground, *_ in scenes.values()}
    wanted |= {name for _, *things in scenes.values() for name, _ in things}
    listed = {name: content["pictures"][name] for name in sorted(wanted)}
    files = photographs({**content, "pictures": listed}, given)
    pictures = {name: make_picture(files[name], about) for name, about in listed.items()}
    with whole_folder(output) as part:
        for scene, (ground, *marked) in scenes.items():
            folder = part / scene
            (folder / "frames").mkdir(parents=True)
            things = []
            for (name, kind), side in zip(marked, SIDES, strict=True):
                entry = next(e for e in content["classes"][kind] if e["picture"] == name)
                things.append(cut_out(pictures[name], entry, side))
            behind = pictures[ground].resize(SIZE, Image.LANCZOS)
            for number in range(FRAMES):
                picture, labels = frame(number, behind, things)
                picture.save(folder / f"frames/{number:05}.png")
                if number in SCORED:
                    write_video_mask(folder / f"{number:05}.png", labels)
    return [output / name for name in scenes]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="datasets/hidden_videos", help="a new folder")
    parser.add_argument("--photographs", help="folder with the photographs, by their names")
    args = parser.parse_args(argv)
    try:
        content = json.loads(LIST.read_text(encoding="utf-8"))
        written = write(content, args.output, args.photographs)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print(*written, sep="\n")


if __name__ == "__main__":
    main()
