#!/usr/bin/env python
"""Measures what corrections gain in the label loop, and what correcting the doubtful first gains.

    python tools/label_gain.py --pairs shared/real_pairs --composites composites/novel

One class at a time: a picture is the first reference, the others are the folder. Half of these are
never offered; of the other half the 0, 1 or 3 most doubtful ones, or as many at random, are
corrected: they become references, and the rest is segmented anew. Seeds choose the first reference,
the halves and the random order. All figures are mean IoU of pictures in percent, what is left out
counts 0: (a) of the folder, where a corrected picture counts as it was given, and (b) of the half
that is never offered.

--pairs takes folders of class folders, N.jpg with its mask N.png (a validation set too), whose
classes are a row each; --composites a split of datasets/prepare_composites.py, whose categories are
one row together.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from machine import hardware, markdown
from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.engine.label.corrections import joined_context
from segic_d2.io.rle import decode, encode
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from segic_d2.predictor import InContextPredictor
from segic_d2.predictor.doubt import doubt
from segic_d2.predictor.targets import read_target
from segic_d2.structures.context import Context
from segic_d2.structures.features import Features
from segic_d2.utils.files import write_whole

COUNTS = 0, 1, 3  # corrections per class
SHARE = 0.01  # of the frame that a category covers where a composite counts as its picture
MEGABYTES = 4096  # of features that are remembered

Figures = dict[str, dict[str, dict[str, float]]]  # {set: {"CLASS SEED": {column: IoU}}}
Masks = Mapping[str, np.ndarray]  # of one class by picture, bool (H, W)


class Parts(NamedTuple):  # the pictures of a class; those that are offered in random order
    first: str
    offered: list[str]
    fixed: list[str]


def part(files: Sequence[str], seed: int) -> Parts:
    """Part three pictures or more; of an odd number of others, more are offered."""
    order = np.random.default_rng(seed).permutation(len(files))
    first, *others = [files[i] for i in order]
    half = len(others) // 2
    return Parts(first, others[half:], others[:half])


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Of two masks, bool (H, W), not both empty."""
    return float((mask & truth).sum() / (mask | truth).sum())


class Kind:
    """The pictures of a class; each is encoded once as a target, and once as a reference."""

    never_empty = True  # as every picture shows the class

    def __init__(self, predictor: InContextPredictor, name: str, masks: Masks) -> None:
        self.predictor, self.name, self.masks = predictor, name, masks
        self._features: dict[str, Features] = {}
        self._shots: dict[str, Context] = {}

    def encode_references(self, references: Sequence[Any], task: str = "semantic") -> Context:
        """The predictor's, of one reference; ``joined_context`` asks for it."""
        (reference,) = references
        file = reference[0]
        if file not in self._shots:
            self._shots[file] = self.predictor.encode_references([reference], task)
        return self._shots[file]

    def context(self, first: str, corrected: Sequence[str], shots: int) -> Context:
        """Of the first reference and of what was corrected."""
        start, records = self.encode_references([(first, self.masks[first], [self.name])]), []
        for file in corrected:
            mask = self.masks[file]
            about = {"file": file, "size": list(mask.shape), "names": [self.name]}
            records.append({**about, "things": [[0, 1.0, encode(mask)["counts"]]]})
        return joined_context(self, start, records, shots)

    def features(self, file: str) -> Features:
        """Of a target."""
        if file not in self._features:
            view, _, _ = read_target(file, self.predictor.model.input)
            self._features[file] = self.predictor.model.encode_images([view])
        return self._features[file]

    def iou(self, file: str, context: Context) -> float:
        """Of what is shown of a picture; nothing is shown of what is left out."""
        model = self.predictor.model
        found = model.segment(self.features(file), context)[0].compete(model.absent)
        return iou(found.masks[0].numpy(), self.masks[file]) if len(found) else 0.0

    def doubt(self, file: str, context: Context) -> float:
        """By which ``segic label`` orders pictures."""
        model = self.predictor.model
        found = model.segment(self.features(file), context)[0]
        shown = found.compete(model.absent)
        return doubt(found, model.absent).value if len(shown) or not self.never_empty else 1.0


@torch.no_grad()
def simulate(kind: Any, files: Sequence[str], seed: int, shots: int) -> dict[str, float]:
    """The figures of one class and seed: {"a 0", "a 1 random", …, "b 3 doubtful"}."""
    parts = part(files, seed)
    start = kind.context(parts.first, [], shots)
    doubts = {file: kind.doubt(file, start) for file in parts.offered}
    doubtful = sorted(parts.offered, key=lambda file: -doubts[file])
    known: dict[frozenset[str], dict[str, float]] = {}
    found = {}
    for count in COUNTS:
        for order, ranked in (("random", parts.offered), ("doubtful", doubtful)):
            corrected = ranked[:count]
            key = frozenset(corrected)
            if key not in known:
                context = kind.context(parts.first, corrected, shots) if corrected else start
                known[key] = {
                    file: 1.0 if file in key else kind.iou(file, context)
                    for file in (*parts.offered, *parts.fixed)
                }
            column = f"{count} {order}" if count else "0"
            found[f"a {column}"] = float(np.mean(list(known[key].values())))
            found[f"b {column}"] = float(np.mean([known[key][file] for file in parts.fixed]))
    return found


def pair_kinds(folder: str, least: int) -> dict[str, Masks]:
    """The classes of a folder of class folders with ``least`` pictures or more."""
    pairs = PairFolder(folder)
    return {
        name: {file: pairs.read(file, i).mask for file in pairs.masks[name]}
        for i, name in pairs.classes.items()
        if len(pairs.masks[name]) >= least
    }


def composite_kinds(folder: str, categories: int, pictures: int) -> dict[str, Masks]:
    """Of a split of composites, by name the first ``categories`` that cover a share of ``SHARE`` of
    the frame in ``pictures`` scenes or more, and of these the first. ValueError: fewer."""
    place = Path(folder)
    content = json.loads((place / "instances.json").read_text())
    scenes = {s["id"]: s for s in content["images"]}
    names = {c["id"]: c["name"] for c in content["categories"]}
    found: dict[str, dict[int, np.ndarray]] = defaultdict(dict)
    for thing in content["annotations"]:
        scene, own = scenes[thing["image_id"]], found[names[thing["category_id"]]]
        mask = decode(thing["segmentation"], scene["height"], scene["width"])
        own[scene["id"]] = own[scene["id"]] | mask if scene["id"] in own else mask
    kinds: dict[str, Masks] = {}
    for name in sorted(found):
        shown = [(i, mask) for i, mask in sorted(found[name].items()) if mask.mean() >= SHARE]
        if len(shown) >= pictures and len(kinds) < categories:
            files = [str(place / "images" / scenes[i]["file_name"]) for i, _ in shown]
            kinds[name] = dict(zip(files[:pictures], [m for _, m in shown], strict=False))
    if len(kinds) < categories:
        raise ValueError(
            f"{folder}: {len(kinds)} categories have {pictures} pictures, {categories} are asked "
            "for; generate more scenes"
        )
    return kinds


def _cell(runs: Sequence[Mapping[str, float]], column: str) -> str:
    """The mean of a column, and what it is above random order in (a), above no corrections in (b),
    with the standard error of that."""
    values = np.array([run[column] for run in runs]) * 100
    half, count, *order = column.split()
    if count == "0" or (half, *order) == ("a", "random"):
        return f"{values.mean():.1f}"
    other = f"a {count} random" if half == "a" else "b 0"
    more = values - np.array([run[other] for run in runs]) * 100
    error = more.std(ddof=1) / len(more) ** 0.5 if len(more) > 1 else float("nan")
    return f"{values.mean():.1f} ({more.mean():+.1f} ± {error:.1f})"


def report(found: Figures, sets: Mapping[str, Mapping[str, Masks]]) -> str:
    """The table, a row for each set."""
    columns = list(next(iter(next(iter(found.values())).values())))
    asked = sorted(columns, key=lambda column: column[0])  # (a), then (b)
    lines = [["set", "pictures", *(f"({c[0]}){c[1:]}" for c in asked)]]
    for title, runs in found.items():
        numbers = {len(masks) for masks in sets[title].values()}
        pictures = f"{len(sets[title])} × {'–'.join(map(str, sorted(numbers)))}"
        lines.append([title, pictures, *(_cell(list(runs.values()), c) for c in asked)])
    return markdown(lines)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, of in (("--pairs", "class folders"), ("--composites", "splits of composites")):
        parser.add_argument(name, nargs="*", default=[], metavar="DIR", help=of)
    parser.add_argument("--least", type=int, default=5, help="pictures of a class of --pairs")
    parser.add_argument("--categories", type=int, default=20, help="of each of --composites")
    parser.add_argument("--pictures", type=int, default=12, help="of each category")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--shots", type=int, default=5, help="corrections that become references")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--may-be-empty", action="store_true", help="not by --never-empty")
    parser.add_argument("--quick", action="store_true", help="3 categories and 1 seed")
    parser.add_argument("--output", help="JSON file for the figures of all classes and seeds")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    start, found = time.process_time(), Figures()
    sets: dict[str, dict[str, Masks]] = {}
    number, seeds = (3, 1) if args.quick else (args.categories, args.seeds)
    try:
        if min(args.least, args.pictures) < 3:
            raise ValueError("--least and --pictures are 3 or more: first, offered, never offered")
        for folder in args.pairs:
            for name, masks in pair_kinds(folder, args.least).items():
                sets[f"{folder}: {name}"] = {name: masks}
        sets |= {f: composite_kinds(f, number, args.pictures) for f in args.composites}
        if not sets:
            raise ValueError("nothing to measure: give --pairs with such classes, or --composites")
        predictor = InContextPredictor(args.config_file, device="cpu")
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    encoder: Any = predictor.model.encoder
    encoder.memory = FeatureMemory(MEGABYTES)  # scenes of several categories
    for title, kinds in sets.items():
        found[title] = {}
        for name, masks in kinds.items():
            kind = Kind(predictor, name, masks)
            kind.never_empty = not args.may_be_empty
            for seed in range(seeds):
                found[title][f"{name} {seed}"] = simulate(kind, list(masks), seed, args.shots)
    print(report(found, sets))
    minutes = (time.process_time() - start) / 60
    print(f"\n{seeds} seeds, {minutes:.1f} minutes of CPU, {hardware('cpu')}")
    if args.output:
        write_whole(args.output, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
