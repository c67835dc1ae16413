#!/usr/bin/env python
"""Draws the episodes of tools/evaluate_pairs.py that went worst and best, one of a kind at most.

    python tools/draw_pairs.py datasets/real_validation OTHER_DIR … --count 10 --output docs

Writes worst.jpg and best.jpg, two episodes in a row: the reference with its mask, the target with
what was found, and with the mask drawn by hand. With --before, changed.jpg too: what other options
found, cut about the thing, of the episodes that gain most, and of a quarter that lose most.
"""

import argparse
import sys
from itertools import groupby
from pathlib import Path

import numpy as np

from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.io.pictures import read_image
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.visualizer import overlay, panel, save_image


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders of class folders")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs of the config")
    parser.add_argument("--before", nargs="+", help="KEY VALUE pairs of what to compare with")
    parser.add_argument("--count", type=int, default=10, help="of each; default 10")
    parser.add_argument("--height", type=int, default=120, help="of a picture, px; default 120")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", required=True, help="folder for the pictures")
    return parser.parse_args(argv)


def measure(predictor, name):
    """Yields (IoU, folder, kind, reference, target) of the episodes of a folder."""
    folder = PairFolder(name)
    episodes = sorted(folder.episodes().episodes, key=lambda x: (x.class_id, x.references[0]))
    for (kind, shown), group in groupby(episodes, lambda x: (x.class_id, x.references[0])):
        show(predictor, folder, kind, shown)
        for episode in group:
            mask = predictor(episode.target, independent=True).masks[0]
            truth = folder.read(episode.target, kind).mask
            value = (mask & truth).sum() / max((mask | truth).sum(), 1)
            yield float(value), folder, kind, shown, episode.target


def show(predictor, folder, kind, reference):
    mask = folder.read(reference, kind).mask
    predictor.set_references([(reference, mask, folder.classes[kind])])


def extremes(measured, count):
    """The first of sorted episodes, one of a kind at most, the sets' kinds apart."""
    chosen = {}
    for episode in measured:
        _, folder, kind, *_ = episode
        chosen.setdefault((folder.root, kind), episode)
    return list(chosen.values())[:count]


def draw(predictor, episode, height):
    """A row: reference, what was found, what was drawn by hand."""
    value, folder, kind, shown, target = episode
    show(predictor, folder, kind, shown)
    result = predictor(target, independent=True)
    masks = (folder.read(shown, kind).mask, result.masks[0], folder.read(target, kind).mask)
    titles = f"{folder.classes[kind]}: reference", f"found, IoU {value:.2f}", "by hand"
    pictures = read_image(shown), result.image, result.image
    painted = [overlay(x, m[None]) for x, m in zip(pictures, masks, strict=True)]
    return panel(list(zip(titles, painted, strict=True)), height)


def draw_change(predictors, episode, height):
    """A row: the target cut about the thing by hand, before and after; its mask by hand."""
    _, folder, kind, shown, target = episode
    truth, masks = folder.read(target, kind).mask, []
    for predictor in predictors:
        show(predictor, folder, kind, shown)
        result = predictor(target, independent=True)
        masks.append(result.masks[0])
    seen = truth | masks[0] | masks[1]
    spans = []
    for axis in (1, 0):
        places = np.flatnonzero(seen.any(axis))
        more = (places[-1] - places[0]) // 3 + 20
        spans.append(slice(max(0, places[0] - more), places[-1] + more))
    ious = [(m & truth).sum() / max((m | truth).sum(), 1) for m in masks]
    titles = f"{folder.classes[kind]} {ious[0]:.2f}", f"after {ious[1]:.2f}", "by hand"
    painted = [overlay(result.image, m[None])[tuple(spans)] for m in (*masks, truth)]
    return panel(list(zip(titles, painted, strict=True)), height)


def sheet(rows):
    """Rows of panels one below the other in two columns, on white."""
    width = max(row.shape[1] for row in rows)
    padded = [
        np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255)
        for row in rows
    ]
    if len(padded) % 2:
        padded.append(np.full_like(padded[0], 255))
    return np.concatenate(
        [np.concatenate(padded[i : i + 2], 1) for i in range(0, len(padded), 2)], 0
    )


def main(argv=None):
    args = parse_args(argv)
    opts = [*args.opts, "MODEL.SEGIC.TEST.MIN_SCORE", 0.0]
    try:
        predictor = InContextPredictor(args.config_file, device=args.device, opts=opts)
        found = [x for name in args.folders for x in measure(predictor, name)]
        changed, other = [], None
        if args.before:
            own = [*opts, *args.before]
            other = InContextPredictor(args.config_file, device=args.device, opts=own)
            before = [x for name in args.folders for x in measure(other, name)]
            each = zip(found, before, strict=True)
            changed = sorted([(y[0] - x[0], *x[1:]) for x, y in each], key=lambda x: x[0])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    found.sort(key=lambda x: x[0])
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    for name, order in (("worst", found), ("best", found[::-1])):
        rows = [draw(predictor, x, args.height) for x in extremes(order, args.count)]
        save_image(output / f"{name}.jpg", sheet(rows))
    if other is not None:
        lost = args.count // 4
        gains, losses = ([x for x in changed if sign * x[0] > 0] for sign in (-1, 1))
        chosen = extremes(gains, args.count - lost) + extremes(losses[::-1], lost)
        rows = [draw_change((other, predictor), x, args.height) for x in chosen]
        if rows:
            save_image(output / "changed.jpg", sheet(rows))
    print(f"{len(found)} episodes; {output} has the pictures")


if __name__ == "__main__":
    main()
