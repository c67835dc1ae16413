#!/usr/bin/env python
"""Checks whether a data set is whole and where it belongs; says exactly what is missing.

python datasets/verify.py coco20i [ade20k150 …] [--root DIR] [--full]

A name that says where the data are, such as folder:DIR or coco:JSON:IMAGES, is looked at by
``segic check``.

The exit status is 0 if all is there, 1 if something is missing, 2 if there is no such data set.
"""

import argparse
import os
import sys

from trees.verify import known_sets, verify_tree


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description="Says what a data set lacks.", epilog=f"data sets: {', '.join(known_sets())}"
    )
    parser.add_argument("names", nargs="+", metavar="DATASET", help="or: all")
    root = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))
    parser.add_argument("--root", default=root, help="default: $DETECTRON2_DATASETS or ./datasets")
    parser.add_argument("--full", action="store_true", help="also read every file; takes long")
    args = parser.parse_args(arguments)
    names = known_sets() if "all" in args.names else args.names
    own = [name for name in names if ":" in name]
    names = [name for name in names if name not in own]
    for name in set(names) - set(known_sets()):
        parser.error(f"no data set {name!r}; there are: {', '.join(known_sets())}")
    incomplete = any([_check(name, args.full) for name in own])
    for name in names:
        missing, fine = verify_tree(name, args.root, args.full)
        incomplete |= bool(missing)
        print(f"{name}: {f'{len(missing)} things missing' if missing else 'complete'}")
        for line in missing:
            print(f"  missing: {line}")
        for line in fine:
            print(f"  ok: {line}" if not line.startswith("optional") else f"  {line}")
    return int(incomplete)


def _check(name, full):
    """The exit status of ``segic check``."""
    from segic_cli.main import main as segic

    return segic(["check", name, *["--full"] * full])


if __name__ == "__main__":
    sys.exit(main())
