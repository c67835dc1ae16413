"""The pictures that travel to a GPU machine: cut-outs and backgrounds, and scenes made of them.

    python tools/gpu_scenes.py FOLDER OUTPUT [--num-train 3000]     on that machine, no network

``pack_pictures`` writes FOLDER where the packages are, or can be fetched.
"""

import argparse
import os
import shutil
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "datasets"))
from composites.cutouts import cutouts_root, prepared_background, view_files  # noqa: E402
from composites.sources import fetch, sources_root  # noqa: E402
from composites.splits import SEED, SIZES, generate, photograph  # noqa: E402
from composites.table import (  # noqa: E402
    BACKGROUNDS,
    OBJECTS,
    objects_of_split,
    read_backgrounds,
    read_objects,
)
from segic_d2.utils.files import write_picture  # noqa: E402

SIDE, QUALITY = 800, 75  # px, longer side of a background; of WebP
TABLES = "objects.csv", "backgrounds.csv"


def pack_pictures(folder, sources=None, tables=(OBJECTS, BACKGROUNDS)):
    """Write a folder from which scenes can be made without the packages.

    It holds both tables, and in folders that are named as those of the cache the cut-outs of
    training and all backgrounds, at ``QUALITY``, backgrounds made smaller: ``SIDE``.

    Args:
        folder: a new folder.
        sources: folder of sources; None: the cache's, and what is missing is fetched.
        tables: CSV files of objects and backgrounds.

    Raises:
        OSError, RuntimeError, ValueError: a source, which is named, cannot be had.
    """
    objects, backgrounds = read_objects(tables[0]), read_backgrounds(tables[1])
    if sources is None:
        fetch(sources := sources_root())
    generate(folder, sources, {}, objects=objects, backgrounds=backgrounds)  # cut-outs alone
    cutouts = cutouts_root(objects)
    cache, target = cutouts.parent, Path(folder) / cutouts.name
    for file in (f for o in objects_of_split(objects, "train") for f in view_files(o, cutouts)):
        with Image.open(file) as view:
            write_picture(folder / file.relative_to(cache), view, quality=QUALITY, method=4)
    for item in backgrounds:
        image = Image.fromarray(photograph(item, sources, cutouts))
        image.thumbnail((SIDE, SIDE))
        write_picture(prepared_background(item, target), image, quality=QUALITY, method=4)
    for name, table in zip(TABLES, tables, strict=True):
        shutil.copyfile(table, Path(folder) / name)


def make_scenes(folder, output, size, seed=SEED, processes=None):
    """Write ``size`` scenes of training below ``output``, from what ``pack_pictures`` wrote."""
    objects, backgrounds = (
        read(Path(folder) / name)
        for read, name in zip((read_objects, read_backgrounds), TABLES, strict=True)
    )
    nowhere = Path(folder) / "sources"
    with cache_at(folder):
        generate(output, nowhere, {"train": size}, seed, processes, objects, backgrounds)


@contextmanager
def cache_at(folder):
    """Let cut-outs lie in a folder in place of the cache."""
    before = os.environ.get("SEGIC_D2_CACHE")
    os.environ["SEGIC_D2_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SEGIC_D2_CACHE"]
        else:
            os.environ["SEGIC_D2_CACHE"] = before


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="what pack_pictures wrote")
    parser.add_argument("output", type=Path, help="folder of the splits")
    parser.add_argument("--num-train", type=int, default=SIZES["train"], help="number of scenes")
    args = parser.parse_args(argv)
    start = time.monotonic()
    try:
        make_scenes(args.folder, args.output, args.num_train)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.output}: {args.num_train} scenes in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
