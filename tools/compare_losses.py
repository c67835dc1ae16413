#!/usr/bin/env python
"""Compares the losses of two trainings of the same steps, for example in two precisions:

python tools/compare_losses.py output/fp32 output/bf16

It prints how far ``total_loss`` of the two metrics.json (medians of 20 steps, as Detectron2 writes
them) is apart, as a share of the first folder's.
"""

import argparse
import json
import sys
from pathlib import Path


def losses(folder):
    """Read {iteration: total_loss} of an output folder.

    Raises:
        FileNotFoundError: there is no metrics.json.
        ValueError: it holds no losses.
    """
    lines = (Path(folder) / "metrics.json").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "total_loss" in row]
    if not rows:
        raise ValueError(f"{folder}/metrics.json has no total_loss")
    return {row["iteration"]: row["total_loss"] for row in rows}


def compare(one, other):
    """(largest relative difference, its iteration, number of iterations that both have).

    Raises:
        ValueError: the runs have no iteration in common.
    """
    common = sorted(one.keys() & other.keys())
    if not common:
        raise ValueError("the two runs wrote down no iteration in common")
    apart = {i: abs(other[i] - one[i]) / abs(one[i]) for i in common}
    worst = max(apart, key=apart.get)
    return apart[worst], worst, len(common)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split(":\n")[0])
    parser.add_argument("folders", nargs=2, metavar="FOLDER", help="two output folders")
    args = parser.parse_args(argv)
    try:
        most, iteration, count = compare(*map(losses, args.folders))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"total_loss: {most:.2%} apart at most, after iteration {iteration}, of {count} compared")


if __name__ == "__main__":
    main()
