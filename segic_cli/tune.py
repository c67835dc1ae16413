"""``segic train --from``: a decoder that exists is tuned on labelled pictures."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .checks import SUFFIXES, UsageError, is_url, need_files, need_folder
from .process import rest_waiting_threads

SHIPPED = {"segic-demo": "segic_demo.yaml"}  # checkpoint.pretrained.PRETRAINED, and its configs
OPTIONS = {"SOLVER.MAX_ITER": "steps", "SOLVER.IMS_PER_BATCH": "batch", "SOLVER.BASE_LR": "rate"}


def check(args: argparse.Namespace, data: Sequence[str], pairs: Sequence[str]) -> None:
    """UsageError, FileNotFoundError: what can be wrong before anything is imported."""
    start = args.start
    if start not in SHIPPED and not is_url(start):
        if not start.endswith(SUFFIXES):
            names = ", ".join(SHIPPED)
            raise UsageError(f"--from {start}: neither a decoder that ships ({names}) nor weights")
        need_files("--from", [start])
    if not data:
        raise UsageError("--from needs DATA: a folder or a data set to learn from")
    if args.resume or args.num_gpus > 1:
        raise UsageError("--from tunes in one go and one process: no --resume, no --num-gpus")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if key in OPTIONS or key == "SEED":
            _number(key, value)
    need_folder(
        "OUTPUT_DIR", dict(zip(pairs[::2], pairs[1::2], strict=True)).get("OUTPUT_DIR", ".")
    )


def _number(key: str, value: str) -> float:
    try:
        found = (float if key == "SOLVER.BASE_LR" else int)(value)
    except ValueError as error:
        raise UsageError(f"{key} is {value!r}, no number") from error
    if not found > 0 and key != "SEED" or found < 0:
        raise UsageError(f"{key} is {value}; it must be above 0")
    return found


def config_of(args: argparse.Namespace) -> str:
    """The config of what is tuned: the one given, else that beside the weights, else the shipped
    one."""
    beside = Path(args.start).parent / "config.yaml"
    if args.config_file:
        return args.config_file
    if args.start not in SHIPPED and beside.is_file():
        return str(beside)
    return SHIPPED.get(args.start, "segic_demo.yaml")


def run(
    args: argparse.Namespace, data: Sequence[str], test: Sequence[str], pairs: Sequence[str]
) -> int:
    """Tune, print before and after, and write weights and config; returns the exit status."""
    check(args, data, pairs)
    rest_waiting_threads()
    from segic_d2.config import load_config
    from segic_d2.engine.tune import tune_on
    from segic_d2.predictor import InContextPredictor
    from segic_d2.utils.claim import claim_output
    from segic_d2.utils.files import write_whole

    given = dict(zip(pairs[::2], pairs[1::2], strict=True))
    how: dict[str, Any] = {OPTIONS[k]: _number(k, v) for k, v in given.items() if k in OPTIONS}
    own = [x for key, value in given.items() if key not in OPTIONS for x in (key, value)]
    cfg = load_config(config_of(args), own)
    folder = Path(cfg.OUTPUT_DIR)
    weights, file = folder / "model_final.pth", folder / "config.yaml"
    with claim_output(folder):
        predictor = InContextPredictor(cfg, args.start)
        how["seed"] = max(cfg.SEED, 0)
        report = tune_on(predictor.model, data, list(test) or None, **how)
        print(report)
        predictor.save_weights(weights)
        cfg.MODEL.WEIGHTS = os.path.abspath(weights)
        if report.share is not None:
            cfg.MODEL.SEGIC.REGIONS.DECODER = report.share
        write_whole(file, cfg.dump())
    print(
        f"the better one is in {weights}, its config in {file}; next:\n"
        f"segic segment --config-file {file} --reference IMAGE MASK --input PICTURES --output found"
    )
    return 0
