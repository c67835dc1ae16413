#!/usr/bin/env python
"""Measures how well references of a class find it in other photographs ("real pairs").

    python tools/evaluate_pairs.py DIR --config-file mine.yaml --weights output/model_final.pth
    python tools/evaluate_pairs.py DIR --shots 5 --threshold 0.4 --robustness --abstention

DIR holds one folder per class, with pictures N.jpg and their masks N.png. Every ordered pair
(reference, target) of a class is segmented. IoU is pooled over the pairs of a class at the target's
own size; the mean is over classes. Beside the model stands the propagated mask alone, at the best
single threshold on these very data, and at --threshold. All figures are percentages.

--head region measures regions chosen by reference cells without training (segic_region.yaml),
--head decoder the decoder alone (segic_demo_decoder.yaml). Without weights the decoder is random,
and only the propagated mask is measured.
"""

import argparse
import json
import sys

import torch

from segic_d2.config.load import load_config
from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.engine.evaluations.pairs import PairEvaluation
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.files import write_whole

HEADS = {  # what each adds to a config
    "default": (),
    "decoder": (
        *("MODEL.SEM_SEG_HEAD.NAME", "InContextMaskHead"),
        *("INPUT.MULTIPLE", 0, "INPUT.REFERENCE_WHOLE", False),
        *("MODEL.SEGIC.TEST.REFINE.SECOND_LOOK", 0.0),
    ),
    "region": (
        *("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead"),
        *("INPUT.REFERENCE_WHOLE", True, "MODEL.SEGIC.REGIONS.DECODER", 0.0),
    ),
}
CONFIGS = {  # of a head, if none is given
    "default": "segic_demo.yaml",
    "decoder": "segic_demo_decoder.yaml",
    "region": "segic_region.yaml",
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", metavar="DIR", help="a folder of class folders")
    parser.add_argument("--head", choices=HEADS, default="default", help="default: the config's")
    parser.add_argument(
        "--config-file", help="shipped name or file; default: segic_demo.yaml, or the head's own"
    )
    parser.add_argument("--weights", help="trained weights; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--shots", type=int, default=1, help="K; a class of n ≤ K has n - 1")
    parser.add_argument("--seed", type=int, default=0, help="of references and absent targets")
    parser.add_argument(
        "--threshold", type=float, nargs="*", default=[], help="of the propagated mask, fixed"
    )
    parser.add_argument("--robustness", action="store_true", help="worse masks, worse targets")
    parser.add_argument("--flip", action="store_true", help="the target also mirrored, averaged")
    parser.add_argument("--abstention", action="store_true", help="the score, present or absent")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--output", help="JSON file for all figures")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    return parser.parse_args(argv)


def run(args):
    """Measure all figures; returns values of JSON."""
    config = args.config_file or CONFIGS[args.head]
    cfg = load_config(config, [*HEADS[args.head], *args.opts])
    weights = cfg.MODEL.WEIGHTS if args.weights is None else args.weights
    # it must not abstain itself where the price of abstaining is measured
    never = ["MODEL.SEGIC.TEST.MIN_SCORE", 0.0]
    model = InContextPredictor(cfg, weights=weights, device=args.device, opts=never).model
    min_score = cfg.MODEL.SEGIC.TEST.MIN_SCORE
    folder = PairFolder(args.folder)
    told = bool(weights) or not model.needs_weights  # by the model
    evaluation = PairEvaluation(cfg, model, folder, args.shots, args.seed, min_score)
    plain = evaluation.plain
    best, _ = plain.best()
    results = {"model": plain.evaluate()}
    results |= {f"propagated mask > {t:g}": plain.cut(t) for t in args.threshold}
    results["best threshold"] = {**plain.cut(best), "threshold": best}
    found = {
        "folder": str(args.folder),
        "config": config,
        "head": args.head,
        "weights": weights,
        "opts": args.opts,
        "shots": args.shots,
        "seed": args.seed,
        "canvas": model.input.canvas,
        "episodes": len(evaluation.episodes.episodes),
        "results": results,
    }
    if args.abstention and told:
        found["abstention"] = evaluation.abstention()
    if args.flip and told:
        found["flipped"] = evaluation.flipped()
    seconds = evaluation.model.seconds
    found["cpu_seconds"] = {name: spent / number for name, (spent, number) in seconds.items()}
    if args.robustness:
        found["robustness"] = evaluation.robustness(best)
    if not told:  # the decoder is random
        del found["cpu_seconds"]["decode"]
        for row in (results, *found.get("robustness", {}).values()):
            del row["model"]
    return found


def report(found):
    """The figures as Markdown."""
    results = found["results"]
    best = results["best threshold"]["threshold"]
    titles = {name: name for name in results}
    titles["best threshold"] = f"propagated mask > {best:g} (best)"
    text = [f"{found['episodes']} episodes, {found['shots']}-shot, canvas {found['canvas']} px", ""]
    head = ["class", *(f"{titles[n]}: IoU | boundary" for n in results)]
    text.append("| " + " | ".join(head) + " |")
    text.append("|" + "---|" * (1 + 2 * len(results)))
    labels = next(iter(results.values()))["classes"]
    text += [row(label, [r["classes"][label] for r in results.values()]) for label in labels]
    text.append(row("mean", list(results.values())))
    if "abstention" in found:
        a = found["abstention"]
        text += [
            "",
            f"AUROC of the score, {a['present']} present, {a['absent']} absent: {a['AUROC']:.3f}",
        ]
        lost = results["model"]["lost_by_abstaining"]
        text.append(f"mIoU lost by abstaining (MODEL.SEGIC.TEST.MIN_SCORE): {lost:.1f}")
    if "flipped" in found:
        f = found["flipped"]
        text += ["", f"With flips: IoU {f['IoU']:.1f}, boundary {f['boundary_IoU']:.1f}"]
    if "robustness" in found:
        rows = found["robustness"]
        names = list(next(iter(rows.values())))
        text += ["", "| variant | " + " | ".join(f"{n}: IoU | boundary" for n in names) + " |"]
        text.append("|" + "---|" * (1 + 2 * len(names)))
        plain = [results["best threshold" if n == "propagated mask" else n] for n in names]
        text.append(row("as it is", plain))
        text += [row(name, [values[n] for n in names]) for name, values in rows.items()]
    seconds = ", ".join(f"{name} {s:.2f} s" for name, s in found["cpu_seconds"].items())
    return "\n".join([*text, "", f"CPU seconds per picture: {seconds}"])


def row(label, values):
    cells = [f"{v[key]:.1f}" for v in values for key in ("IoU", "boundary_IoU")]
    return f"| {label} | " + " | ".join(cells) + " |"


def main(argv=None):
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        found = run(args)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(report(found))
    if args.output:
        write_whole(args.output, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
