#!/usr/bin/env python
"""Draws the curves of runs from their metrics.json: losses and training IoU over iterations.

python tools/plot_training.py curve.png output/seed0 output/seed1
"""

import argparse
import io
import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402

from segic_d2.utils.files import write_whole  # noqa: E402

CURVES = ("total_loss", "loss_mask", "loss_dice", "loss_quality", "mask_iou")


def read_metrics(folder):
    """Read the lines of a run's metrics.json that report training: list of dicts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming the file, if it reports no training.
    """
    path = Path(folder) / "metrics.json"
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    found = [line for line in lines if "total_loss" in line]
    if not found:
        raise ValueError(f"{path} reports no training")
    return found


def draw(runs, path):
    """Write a PNG with one panel per curve that any run has.

    Args:
        runs: {name: lines of ``read_metrics``}.
    """
    shown = [c for c in CURVES if any(c in line for lines in runs.values() for line in lines)]
    figure, axes = plt.subplots(1, len(shown), figsize=(3.2 * len(shown), 2.8), squeeze=False)
    for axis, curve in zip(axes[0], shown, strict=True):
        for name, lines in runs.items():
            points = [(line["iteration"], line[curve]) for line in lines if curve in line]
            axis.plot(*zip(*points, strict=True), linewidth=1, label=name)
        axis.set_title(curve)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.tight_layout()
    drawn = io.BytesIO()  # Pillow takes a file for written that the disk has only a part of
    figure.savefig(drawn, dpi=100, format=Path(path).suffix[1:] or None)
    write_whole(path, drawn.getbuffer())
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", metavar="FILE.png")
    parser.add_argument("runs", nargs="+", metavar="DIR", help="output folders of runs")
    args = parser.parse_args(argv)
    try:
        draw({Path(run).name: read_metrics(run) for run in args.runs}, args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(args.output)


if __name__ == "__main__":
    main()
