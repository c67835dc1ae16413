#!/usr/bin/env python
"""Measures the region head on sets of photographs, with each of its parts left out in turn.

    python tools/compare_heads.py datasets/real_validation OTHER_DIR … --output table.json
    python tools/compare_heads.py DIR --rows whole "no regions" --opts MODEL.SEGIC.REGIONS.CELLS 60

Each DIR is one of tools/evaluate_pairs.py; the figures are its "model" IoU, in percent, and the
mean over the sets. Pictures are encoded once for all rows that see them alike. A part that others
are balanced with is left out at another threshold, the best of a few for the validation sets.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from segic_d2.config.load import load_config
from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.engine.evaluations.pairs import PairEvaluation
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.files import write_whole

R, MEGABYTES = "MODEL.SEGIC.REGIONS.", 4096
HEAD, LOOK = "MODEL.SEM_SEG_HEAD.NAME", "MODEL.SEGIC.TEST.REFINE.SECOND_LOOK"
ROWS = {
    "whole": (),
    "decoder alone": (HEAD, "InContextMaskHead", "INPUT.MULTIPLE", 0, LOOK, 0.0),
    "no decoder": (f"{R}DECODER", 0.0),
    "no learned choice": (f"{R}LEARNED", ""),
    "no whitening": (f"{R}WHITENING", ""),
    "no prototype × propagation": (f"{R}PROTOTYPE", False, f"{R}THRESHOLD", -0.03),
    "no nearest cells": (f"{R}NEAREST", 0),
    "no background cells": (f"{R}BACKGROUND", 0.0, f"{R}THRESHOLD", 0.24),
    "what is unmarked is background": (f"{R}UNMARKED", 0.0),
    "no regions": (f"{R}CUT", 0.0),
    "no finer regions of small things": (f"{R}SMALL", 0.0),
    "no relation to the best": (f"{R}RELATIVE", 0.0, f"{R}THRESHOLD", 0.2),
    "no guided edges": ("MODEL.SEGIC.TEST.REFINE.RADIUS", 0),
    "no second look": (LOOK, 0.0),
    "reference not whole": ("INPUT.REFERENCE_WHOLE", False),
    "pictures padded": ("INPUT.MULTIPLE", 0),
    "120 cells": (f"{R}CELLS", 120),
    "60 cells": (f"{R}CELLS", 60),
    "24 cells": (f"{R}CELLS", 24),
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders of class folders")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--output", help="JSON file for all figures")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs, before a row's own")
    return parser.parse_args(argv)


def build(args, opts, encoders):
    """Config and model of a row; encoders are shared by rows with the same view of pictures."""
    cfg = load_config(args.config_file, [*args.opts, *opts])
    model = InContextPredictor(
        cfg, device=args.device, opts=["MODEL.SEGIC.TEST.MIN_SCORE", 0.0]
    ).model
    model.encoder.memory = FeatureMemory(MEGABYTES)
    model.encoder = encoders.setdefault(model.input, model.encoder)
    return cfg, model


def main(argv=None):
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    found, encoders = {}, {}
    names = [Path(folder).name for folder in args.folders]
    print("| | " + " | ".join([*names, "mean"]) + " |\n" + "|---" * (len(names) + 2) + "|")
    try:
        folders = [PairFolder(folder) for folder in args.folders]
        for row in args.rows:
            cfg, model = build(args, ROWS[row], encoders)
            runs = [PairEvaluation(cfg, model, folder, args.shots) for folder in folders]
            found[row] = [run.plain.evaluate() for run in runs]
            values = [result["IoU"] for result in found[row]]
            shown = [f"{v:.1f}" for v in (*values, sum(values) / len(values))]
            print(f"| {row} | " + " | ".join(shown) + " |", flush=True)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if args.output:
        told = {row: dict(zip(args.folders, each, strict=True)) for row, each in found.items()}
        write_whole(args.output, json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
