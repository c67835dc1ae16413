"""Train on your own pictures, or as a config says.

segic train folder:/data/mushrooms --test folder:/data/mushrooms-test
segic train --from segic-demo folder:/data/mushrooms
segic train --config-file segic_dinov2_L.yaml --num-gpus 8 SOLVER.BASE_LR 0.0002

DATA is a folder (one sub-folder per class with N.jpg and its mask N.png; or images/ and masks/ with
label maps), FORMAT:PLACE such as coco:JSON:IMAGES (docs/formats.md), or a registered data set. KEY
VALUE pairs override the config; options may stand before or behind them. Checkpoints and logs go to
OUTPUT_DIR.

With --from a decoder that exists is tuned, in minutes on a CPU: before and after are measured on
pictures that are held out, or on --test, and the better one is kept.

It runs on one machine; train_net.py of the repository trains on several (docs/cluster.md).
"""

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

from . import tune
from .checks import Problems, UsageError, count

CONFIG = "segic_shapes_S.yaml"
SEVERAL = "train_net.py of the repository trains on several (docs/cluster.md)"
KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)*")  # of a config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic train``."""
    parser.usage = "segic train [DATA …] [options] [KEY VALUE …]"
    parser.set_defaults(words=[])
    add = parser.add_argument
    add(
        "--config-file",
        help=f"a file or a shipped config; default: {CONFIG}, with --from what it was trained with",
    )
    add(
        "--from",
        dest="start",
        metavar="NAME",
        help="tune this decoder: segic-demo, which ships, or a file of weights",
    )
    add(
        "--test",
        action="append",
        default=[],
        metavar="DATA",
        help="what is evaluated at the end, may be repeated; default: nothing where DATA are "
        "given, else DATASETS.TEST of the config; with --from a part of DATA",
    )
    add("--num-gpus", type=count, default=1, help="processes, also without GPUs; default: 1")
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")


def parts(words: list[str]) -> tuple[list[str], list[str]]:
    """DATA and the KEY VALUE pairs. UsageError: a word is neither."""
    first = next(
        (i for i, x in enumerate(words) if KEY.fullmatch(x) and not os.path.exists(x)), len(words)
    )
    data, pairs = words[:first], words[first:]
    for key in [*data, *pairs[::2]]:
        if key.partition("=")[0] in ("--num-machines", "--machine-rank", "--dist-url"):
            raise UsageError(f"{key}: segic train runs on one machine; {SEVERAL}")
        if key.startswith("-"):
            raise UsageError(f"unrecognized option {key} (segic train --help lists the options)")
    for key in pairs[::2]:
        if not KEY.fullmatch(key):
            raise UsageError(f"{key!r} stands where a config key is expected: KEY VALUE pairs")
    if len(pairs) % 2:
        raise UsageError(f"the config key {pairs[-1]} has no value: KEY VALUE pairs")
    return data, pairs


def dataset(place: str) -> str:
    """The name of a data set: a folder's is folder:PATH. FileNotFoundError: no such folder."""
    if os.path.isdir(place):
        return f"folder:{place}"
    path = place.removeprefix("folder:")
    named = path != place or (os.sep in place and ":" not in place)
    if named and "://" not in path and not os.path.isdir(path):
        raise FileNotFoundError(f"no such folder: {path}")
    return place


def options(data: Sequence[str], test: Sequence[str], pairs: Sequence[str]) -> list[Any]:
    """Config KEY VALUE pairs of data sets to train and to test on, and ``pairs``, which win. What a
    config says of its own data sets, one by one, is cleared where others take their place."""
    opts: list[Any] = []
    if data:
        opts += ["DATASETS.TRAIN", tuple(data), "DATASETS.TEST", ()]
        opts += ["DATASETS.EPISODE_MAPPERS", (), "DATASETS.WEIGHTS", (), "DATASETS.DRAW", ()]
    if test:
        opts += ["DATASETS.TEST", tuple(test)]
    return [*opts, *pairs]


def run(args: argparse.Namespace) -> int:
    """Train, then evaluate; returns the exit status."""
    words, pairs = parts(args.words)
    data, test = [dataset(place) for place in words], [dataset(place) for place in args.test]
    if args.start:
        return tune.run(args, data, test, pairs)
    from detectron2.engine import launch

    from segic_d2.config import get_config_file
    from segic_d2.engine.run import find_problems, run

    file = args.config_file or CONFIG
    own = argparse.Namespace(
        config_file=file if os.path.isfile(file) else get_config_file(file),
        **{"opts": options(data, test, pairs), "resume": args.resume, "eval_only": False},
        **{"num_gpus": args.num_gpus, "num_machines": 1, "dist_url": "auto"},
    )
    problems = find_problems(own) or _unreadable(own, bool(data), test)
    if problems:
        raise Problems(problems)
    launch(run, args.num_gpus, dist_url="auto", args=(own,))
    return 0


def _unreadable(args: argparse.Namespace, train: bool, test: Sequence[str]) -> list[str]:
    """Why data sets of the command line cannot be read: their layout, before anything is logged."""
    from segic_d2.config import load_config
    from segic_d2.data import build_train_loader
    from segic_d2.data.health.damaged import one_line
    from segic_d2.data.index import load_records
    from segic_d2.engine import settle_schedule

    cfg = settle_schedule(load_config(args.config_file, args.opts))
    try:
        if train:
            build_train_loader(cfg)
        for name in test:
            load_records(name)
    except (ValueError, OSError) as error:
        return [str(error)]
    except Exception as error:  # foreign files make their readers fail in many ways
        names = ", ".join([*cfg.DATASETS.TRAIN, *test])
        return [f"cannot read {names}: {type(error).__name__}: {one_line(error)}"]
    return []
