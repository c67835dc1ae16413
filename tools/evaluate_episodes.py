#!/usr/bin/env python
"""Compares the model with thresholded propagated masks on episodes of registered datasets.

    python tools/evaluate_episodes.py composites_seen_others composites_novel_others \\
        --tune composites_train_others --shots 1 5

Of every dataset ``TEST.EPISODES`` one-shot episodes (``TEST.SEED``) are segmented. IoU and boundary
IoU are pooled per class at the target's own size; the mean is over classes. The propagated mask is
cut at the threshold that is best on these very episodes, and at the one that is best on the 1-shot
episodes of --tune. All figures but the threshold are percentages.
"""

import argparse
import json
import sys

import torch

from segic_d2.config.load import load_config
from segic_d2.data import build_one_shot_loader
from segic_d2.engine.hooks.feature_cache import open_feature_cache
from segic_d2.engine.loop.inference import run_inference
from segic_d2.evaluation.pairs import PairEvaluator
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.files import write_whole


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", nargs="+", metavar="DATASET")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--weights", help="trained weights; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--tune", metavar="DATASET", help="gives the fixed threshold")
    parser.add_argument("--shots", type=int, nargs="+", default=[1])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="JSON file for all figures")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    return parser.parse_args(argv)


def measure(cfg, model, name, shots, threshold=None):
    """Measure one dataset.

    Returns:
        {"episodes", "IoU", "boundary_IoU", "best": IoU at "best_threshold", "fixed": IoU at
        ``threshold``, or None}.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.SHOTS = shots
    loader = build_one_shot_loader(cfg, name, open_feature_cache(cfg, model))

    def segment(batch):
        return model.segment(model.encode_images(batch), model.episode_contexts(batch))

    evaluator = PairEvaluator()
    run_inference(cfg, segment, loader, evaluator, None)
    ours, (level, best) = evaluator.evaluate(), evaluator.best()
    return {
        "episodes": len(evaluator.scores),
        **{k: ours[k] for k in ("IoU", "boundary_IoU")},
        **{"best": float(best), "best_threshold": float(level)},
        "fixed": None if threshold is None else evaluator.cut(threshold)["IoU"],
    }


def report(rows, threshold):
    """The figures as Markdown."""
    at = "" if threshold is None else f" {threshold:.3f}"
    text = [
        "| dataset | shots | episodes | model IoU | boundary IoU | best threshold | "
        f"fixed threshold{at} |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, shots, f in rows:
        fixed = "" if f["fixed"] is None else f"{f['fixed']:.1f}"
        text.append(
            f"| {name} | {shots} | {f['episodes']} | {f['IoU']:.1f} | {f['boundary_IoU']:.1f} | "
            f"{f['best']:.1f} ({f['best_threshold']:.3f}) | {fixed} |"
        )
    return "\n".join(text)


def main(argv=None):
    args = parse_args(argv)
    try:
        cfg = load_config(args.config_file, args.opts)
        weights = cfg.MODEL.WEIGHTS if args.weights is None else args.weights
        model = InContextPredictor(cfg, weights=weights, device=args.device).model
        threshold = None
        if args.tune:
            threshold = measure(cfg, model, args.tune, 1)["best_threshold"]
        rows = [
            (name, shots, measure(cfg, model, name, shots, threshold))
            for name in args.datasets
            for shots in args.shots
        ]
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(report(rows, threshold))
    if args.output:
        found = [{"dataset": name, "shots": shots, **f} for name, shots, f in rows]
        content = {"weights": weights, "threshold": threshold, "rows": found}
        write_whole(args.output, json.dumps(content, indent=1))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
