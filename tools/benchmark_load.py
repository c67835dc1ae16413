#!/usr/bin/env python
"""Measures how a large COCO file loads: CPU seconds and peak memory, each size in its own process.

    python tools/benchmark_load.py                          # 25,000 to 100,000 pictures
    python tools/benchmark_load.py --pictures 100000 --limit-seconds 60 --limit-gb 2

Each picture has ten polygons of twelve corners. Loading is what training does before its first
picture: the file is read and checked, and the index of episodes is built. The pictures are empty
files: only that they are there is looked at. The exit status is 1 where a limit is passed.
"""

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THINGS, CORNERS, CLASSES, SIDE = 10, 12, 80, 640


def write_file(folder: Path, pictures: int) -> None:
    """A COCO file and its pictures."""
    rng = random.Random(0)
    (folder / "images").mkdir()
    with open(folder / "coco.json", "w") as file:
        names = [f"{i:07}.jpg" for i in range(pictures)]
        for name in names:
            (folder / "images" / name).touch()
        images = [
            {"id": i, "file_name": n, "height": SIDE, "width": SIDE} for i, n in enumerate(names)
        ]
        categories = [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
        file.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, ')
        file.write('"annotations": [')
        for i in range(pictures * THINGS):
            x, y, r = rng.uniform(60, 580), rng.uniform(60, 580), rng.uniform(5, 60)
            turns = [2 * math.pi * k / CORNERS for k in range(CORNERS)]
            ring = [round(v, 2) for t in turns for v in (x + r * math.cos(t), y + r * math.sin(t))]
            thing = {"id": i + 1, "image_id": i // THINGS, "category_id": rng.randint(1, CLASSES)}
            box = [round(v, 2) for v in (x - r, y - r, 2 * r, 2 * r)]
            thing |= {
                "segmentation": [ring],
                "bbox": box,
                "area": round(3 * r * r, 2),
                "iscrowd": 0,
            }
            file.write(("," if i else "") + json.dumps(thing))
        file.write("]}")


def load(folder: Path) -> None:
    """Print the CPU seconds of loading, and the peak memory of this process in GB (10⁹ bytes)."""
    from segic_d2.data.index import Source

    begun = time.process_time()
    source = Source(f"coco:{folder}/coco.json:{folder}/images")
    seconds = time.process_time() - begun
    assert sum(source.counts) == len(source.records) * THINGS
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps([seconds, peak]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = [25_000, 50_000, 100_000]
    parser.add_argument("--pictures", nargs="+", type=int, default=sizes)
    parser.add_argument("--limit-seconds", type=float, default=60)
    parser.add_argument("--limit-gb", type=float, default=2)
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.load:
        load(args.load)
        return 0
    passed = False
    print("| pictures | annotations | file, MB | CPU s | peak GB |\n|---|---|---|---|---|")
    for number in args.pictures:
        with tempfile.TemporaryDirectory() as folder:
            write_file(Path(folder), number)
            line = [sys.executable, __file__, "--load", folder]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            seconds, peak = json.loads(done.stdout.splitlines()[-1])
            size = (Path(folder) / "coco.json").stat().st_size / 1e6
            print(f"| {number:,} | {number * THINGS:,} | {size:.0f} | {seconds:.1f} | {peak:.2f} |")
        passed |= seconds > args.limit_seconds or peak > args.limit_gb
    return int(passed)


if __name__ == "__main__":
    sys.exit(main())
