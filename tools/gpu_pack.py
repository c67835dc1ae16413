"""What a GPU machine without a network needs for a training, in two parts of at most 64 MiB each.

    python tools/gpu_pack.py FOLDER [--wheels DIR] [--python 3.12]
    python tools/gpu_pack.py FOLDER --toy     random weights, made-up pictures, no wheels

part1: wheels and the backbone in half precision; part2: cut-outs and backgrounds. The checkout
travels with each of them. Sizes are printed, and refused where a part does not fit.
"""

import argparse
import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file

from compare_half import write_half
from gpu_parts import ROOT, checkout_size, folder_size, report, write_sums
from gpu_scenes import TABLES, cache_at, pack_pictures
from gpu_wheels import FILES, FOLDER, NEEDED, commands
from segic_d2.modeling.backbone.embedded import TIMM_NAME, embedded_weights

BACKBONE = "backbone.safetensors"


def pack(folder, wheels=None, version="3.12"):
    """Write both parts into a new folder; returns lines that tell their sizes.

    Args:
        folder: it may hold an earlier pack, which is replaced.
        wheels: folder of wheels; None: ``.wheels`` of the checkout, filled from the package index.
        version: of the other machine's Python.

    Raises:
        OSError, RuntimeError, ValueError: a thing that is missing is named; a part is too large.
    """
    parts = _new_parts(folder)
    found = needed_wheels(wheels or fetch_wheels(version))
    (parts[0] / "wheels").mkdir()
    for wheel in found:
        shutil.copy(wheel, parts[0] / "wheels")
    write_half(load_file(embedded_weights()), parts[0] / BACKBONE)
    pack_pictures(parts[1])
    return _closed(parts)


def pack_toy(folder):
    """A pack of random weights and made-up pictures, without wheels; returns lines as ``pack``."""
    from tests.datasets.composites.toy_sources import make_sources

    parts = _new_parts(folder)
    torch.manual_seed(0)
    model = timm.create_model(TIMM_NAME, num_classes=0)
    write_half(model.state_dict(), parts[0] / BACKBONE)
    with tempfile.TemporaryDirectory() as temporary, cache_at(temporary):
        sources = Path(temporary) / "sources"
        for table, items in zip(TABLES[:2], make_sources(sources), strict=True):
            _write_table(Path(temporary) / table.name, [vars(item) for item in items])
        pack_pictures(parts[1], sources, temporary)
    return _closed(parts)


def fetch_wheels(version):
    """Fill ``.wheels`` of the checkout from the package index, where it lacks some; its path."""
    folder = ROOT / FOLDER
    folder.mkdir(exist_ok=True)
    try:
        needed_wheels(folder)
    except FileNotFoundError:
        for command in commands(version):
            done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
                raise RuntimeError(
                    f"the wheels cannot be fetched ({last}); give WHEELS=DIR, which "
                    "bash tools/gpu_check.sh --list-wheels fills elsewhere"
                ) from None
    return folder


def needed_wheels(folder):
    """The newest wheel of every package of ``gpu_wheels.NEEDED``; FileNotFoundError names those
    that a folder lacks."""
    found, absent = [], []
    for module, need, _ in NEEDED:
        wheels = sorted(Path(folder).glob(f"{FILES.get(module, module)}-*.whl"))
        found += wheels[-1:]
        absent += [] if wheels else [need]
    if absent:
        raise FileNotFoundError(f"{folder} has no wheel of {', '.join(absent)}")
    return found


def _write_table(path, rows):
    """Rows of objects or backgrounds as ``composites.table`` reads them."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, [key for key in rows[0] if key != "number"])
        writer.writeheader()
        for row in rows:
            row = {key: row[key] for key in writer.fieldnames}
            writer.writerow(row | ({"shows": ";".join(row["shows"])} if "shows" in row else {}))


def _new_parts(folder):
    parts = [Path(folder) / name for name in ("part1", "part2")]
    for part in parts:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    return parts


def _closed(parts):
    """Write the checksums, if the sizes are such as can travel; the lines that tell the sizes."""
    sizes = {part.name: folder_size(part) for part in parts}
    lines = report(checkout_size(), sizes)
    for part in parts:
        write_sums(part)
    return lines


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="new, or of an earlier pack")
    parser.add_argument("--wheels", type=Path, help="folder of wheels; default: fetched")
    parser.add_argument("--python", default="3.12", help="version of the other machine's Python")
    parser.add_argument("--toy", action="store_true", help="random and small, for a dry run")
    args = parser.parse_args(argv)
    try:
        make = pack_toy(args.folder) if args.toy else pack(args.folder, args.wheels, args.python)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print("\n".join(make))


if __name__ == "__main__":
    main()
