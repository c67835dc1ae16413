"""The pictures that travel to a GPU machine: cut-outs and backgrounds, and scenes made of them.

    python tools/gpu_scenes.py FOLDER OUTPUT [--scenes N]     on that machine, no network

``pack_pictures`` writes FOLDER where the packages are, or can be fetched.
"""

import argparse
import os
import shutil
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "datasets"))
from composites.cutouts import cutouts_root, prepared_background, view_files  # noqa: E402
from composites.packages import fetch_photographs  # noqa: E402
from composites.photographed import (  # noqa: E402
    CUTOUTS,
    PHOTOGRAPHS,
    read_cutouts,
    read_photographs,
)
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

SIDE, QUALITY = 560, 45  # px, longer side of a background; of WebP
TABLES = OBJECTS, BACKGROUNDS, PHOTOGRAPHS, CUTOUTS
SPLITS = "train", "choice_train"  # that are made


def read_tables(folder):
    """(objects, backgrounds, photographs, cut-outs of them) of a folder's ``TABLES``. The last two
    are empty where there is no such file. ValueError: see ``composites.table``."""
    objects, backgrounds, photographs, cutouts = (Path(folder) / table.name for table in TABLES)
    found = read_objects(objects), read_backgrounds(backgrounds)
    if not cutouts.is_file():
        return *found, [], []
    known = read_photographs(photographs)
    return *found, known, read_cutouts(found[0], known, cutouts)


def pack_pictures(folder, sources=None, tables=OBJECTS.parent):
    """Write a folder from which scenes can be made without the packages.

    It holds the tables, and in folders that are named as those of the cache the cut-outs of
    training and all backgrounds, at ``QUALITY``, backgrounds made smaller: ``SIDE``.

    Args:
        folder: a new folder.
        sources: folder of sources; None: the cache's, and what is missing is fetched.
        tables: folder of the tables, see ``read_tables``.

    Raises:
        OSError, RuntimeError, ValueError: a source, which is named, cannot be had.
    """
    objects, backgrounds, photographs, things = read_tables(tables)
    cutouts = cutouts_root(objects)
    if sources is None:
        fetch(sources := sources_root())
        if not all(f.is_file() for thing in things for f in view_files(thing, cutouts)):
            fetch_photographs(photographs, sources)
    # of no scenes: the cut-outs alone
    nothing = dict.fromkeys(SPLITS, 0)
    generate(folder, sources, nothing, objects=objects, backgrounds=backgrounds, things=things)
    shown = objects_of_split([*objects, *things], "choice_train")
    for file in (file for item in shown for file in view_files(item, cutouts)):
        with Image.open(file) as view:
            place = Path(folder) / file.relative_to(cutouts.parent)
            write_picture(place, view, quality=QUALITY, method=4)
    for item in backgrounds:
        image = Image.fromarray(photograph(item, sources, cutouts))
        image.thumbnail((SIDE, SIDE))
        place = prepared_background(item, Path(folder) / cutouts.name)
        write_picture(place, image, quality=QUALITY, method=4)
    for table in TABLES:
        with suppress(FileNotFoundError):
            shutil.copyfile(Path(tables) / table.name, Path(folder) / table.name)


def make_scenes(folder, output, sizes, seed=SEED, processes=None):
    """Write scenes of ``SPLITS`` below ``output``, from what ``pack_pictures`` wrote.

    Args:
        sizes: dict split → number of scenes.
    """
    objects, backgrounds, _, things = read_tables(folder)
    nowhere = Path(folder) / "sources"
    with cache_at(folder):
        generate(output, nowhere, sizes, seed, processes, objects, backgrounds, things)


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
    parser.add_argument("--scenes", type=int, help="number of scenes of each; default: as usual")
    args = parser.parse_args(argv)
    start = time.monotonic()
    sizes = {split: SIZES[split] if args.scenes is None else args.scenes for split in SPLITS}
    try:
        make_scenes(args.folder, args.output, sizes)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    written = ", ".join(f"{n} {split}" for split, n in sizes.items())
    print(f"{args.output}: {written} scenes in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
