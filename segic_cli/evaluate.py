"""Measure how well pictures are segmented by example.

segic evaluate photographs/ --shots 5 --output figures.json
segic evaluate coco_2017_val_panoptic --opts TEST.EPISODES 500

DATA is a folder of class folders (N.jpg with its mask N.png): every ordered pair (reference,
target) of a class is segmented, and IoU and boundary IoU are pooled over the pairs of a class at
the target's own size. Any other data set, as in segic train, is evaluated by TEST.EVALUATORS of the
config; what it writes goes below OUTPUT_DIR.
"""

import argparse
import json
import math
import os
from pathlib import Path
from typing import Any, TypeAlias

from .checks import count, need_folder, need_own, need_pairs, need_weights
from .process import rest_waiting_threads
from .train import dataset

Rows: TypeAlias = dict[str, dict[str, float]]  # {class or evaluation: {metric: value}}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic evaluate``."""
    add = parser.add_argument
    add("data", metavar="DATA", help="a folder or a data set")
    add("--config-file", default="segic_demo.yaml", help="a file or a shipped config")
    add("--weights", help="trained weights; default: MODEL.WEIGHTS of the config")
    add("--shots", type=count, default=1, help="references per target; default: 1")
    add("--seed", type=int, default=0, help="of the drawn references; default: 0")
    add("--device", help="default: the GPU if there is one")
    add("--output", metavar="FILE", help="JSON file for the figures")
    add("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config KEY VALUE pairs")


def run(args: argparse.Namespace) -> int:
    """Measure, and print a table; returns the exit status."""
    name = dataset(args.data)
    need_pairs(args.opts)
    need_weights(args.weights)
    if args.output:
        need_folder("--output", Path(args.output).parent)
        need_own("--output", args.output, {"results", "shots"})
    rest_waiting_threads()
    label_maps = all(os.path.isdir(os.path.join(args.data, part)) for part in ("images", "masks"))
    pairs = os.path.isdir(args.data) and not label_maps
    rows = _pairs(args) if pairs else _dataset(args, name)
    print(table(rows))
    if args.output:
        about = {key: getattr(args, key) for key in ("data", "config_file", "weights", "shots")}
        found = {**about, "seed": args.seed, "opts": args.opts, "results": _json(rows)}
        from segic_d2.utils.files import write_whole

        write_whole(args.output, json.dumps(found, indent=1))
    return 0


def _pairs(args: argparse.Namespace) -> Rows:
    """The figures of every class, and their mean, in percent."""
    from segic_d2.config import load_config
    from segic_d2.data.benchmarks.pairs import PairFolder
    from segic_d2.engine.evaluations.pairs import PairEvaluation
    from segic_d2.predictor import InContextPredictor

    folder, cfg = PairFolder(args.data), load_config(args.config_file, args.opts)
    # as tools/evaluate_pairs.py: what the masks are worth, whatever their scores
    never = ["MODEL.SEGIC.TEST.MIN_SCORE", 0.0]
    model = InContextPredictor(cfg, args.weights, args.device, opts=never).model
    found = PairEvaluation(cfg, model, folder, args.shots, args.seed).plain.model.result()
    return {**found.pop("classes"), "mean": found}


def _dataset(args: argparse.Namespace, name: str) -> Rows:
    """The figures of every evaluation of a data set."""
    from segic_d2.config import load_config
    from segic_d2.config.keys import check_config
    from segic_d2.data import check_data
    from segic_d2.engine import evaluate, find_evaluations
    from segic_d2.predictor import InContextPredictor

    own = ["DATASETS.TEST", (name,), "TEST.SHOTS", args.shots, "TEST.SEED", args.seed]
    cfg = load_config(args.config_file, [*own, *args.opts])
    check_config(cfg, "TEST")
    find_evaluations(cfg)
    check_data(cfg, training=False)
    model = InContextPredictor(cfg, args.weights, args.device).model
    return {task: dict(values) for task, values in evaluate(cfg, model, name).items()}


def table(rows: Rows) -> str:
    """The figures as text: a line per row where all have the same, else a line per figure."""
    from tabulate import tabulate

    if len({tuple(values) for values in rows.values()}) == 1 and len(rows) > 1:
        heads = ["", *(key.replace("_", " ") for key in next(iter(rows.values())))]
        body: list[list[Any]] = [[name, *values.values()] for name, values in rows.items()]
    else:
        heads = ["evaluation", "metric", "value"]
        body = [[row, key, value] for row, values in rows.items() for key, value in values.items()]
    return tabulate(body, heads, tablefmt="github", floatfmt=".1f")


def _json(rows: Rows) -> dict[str, dict[str, float | None]]:
    """Rows without NaN, which JSON lacks."""
    return {
        name: {k: v if math.isfinite(v) else None for k, v in values.items()}
        for name, values in rows.items()
    }
