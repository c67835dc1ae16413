#!/usr/bin/env python
"""Fits what scores mean: the probability that a mask overlaps the thing by half.

    python tools/calibrate.py datasets/real_validation{,_B,_C}
    python tools/calibrate.py datasets/real_validation{,_B,_C} --report OTHER_DIR --table

DIRs are folders of tools/evaluate_pairs.py. Every ordered pair of a kind is a picture that shows
it, and as many are drawn that do not; a logistic regression on them (each half weighs the same) is
the line to put into a config, `MODEL.SEGIC.REGIONS.CALIBRATION`. Run it again whenever the head,
its decoder or its backbone changes. What is left out, `MODEL.SEGIC.TEST.ABSENT`, is the lowest
score by which, on the DIRs' contexts of six kinds, absent ones get a mask of over 1 % of the
picture in 10 % of the cases at most. --report tells what the result does on other folders, which it
never sees. --table fits other evidence beside it: each row by leaving kinds out in five rounds.
"""

import argparse
import json
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize

from segic_d2.evaluation.pairs import auroc
from segic_d2.utils.files import write_whole

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scored_pairs import KINDS, SHARE, Folders, Observer, iou, observe  # noqa: E402

SEEDS = 5  # of the contexts of six kinds
SMALL, MOST = 0.01, 0.10  # a mask that counts, of its picture; absent kinds that get one
LEVELS = [0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5]
CANDIDATES = {
    "presence": ("presence",),
    "value": ("value",),
    "self-score": ("self",),
    "margin to the background": ("background",),
    "margin to the other entities": ("others",),
    "trained quality": ("quality",),
    "presence + value / 4": ("both",),
    "presence, value": ("presence", "value"),
    "presence + value / 4, self-score": ("both", "self"),
    "presence + value / 4, background": ("both", "background"),
    "presence + value / 4, others": ("both", "others"),
    "presence + value / 4, quality": ("both", "quality"),
    "all six": ("presence", "value", "self", "background", "others", "quality"),
}


def fit(examples, names, rows=None):
    """Offset and weights of the logistic regression, and its probabilities of all examples. Only
    pairs count, present and absent ones alike, but for evidence that only several entities give."""
    modes = ("present", "absent", *(("mixed",) if "others" in names else ()))
    y = np.array([e["good"] for e in examples], float)
    x = np.array([[e["evidence"][n] for n in names] for e in examples])
    weight = np.zeros(len(examples))
    for mode in modes:
        own = np.array([e["mode"] == mode for e in examples])
        weight[own] = 1 / own.sum()
    if rows is not None:
        weight = weight * rows
    own = weight > 0
    mean, scale = x[own].mean(0), x[own].std(0) + 1e-9
    z = np.c_[np.ones(len(x)), (x - mean) / scale]
    weight = weight / weight.sum()

    def loss(b):
        logit = z[own] @ b
        wrong = weight[own] * (1 / (1 + np.exp(-logit)) - y[own])
        value = (weight[own] * (np.logaddexp(0, logit) - y[own] * logit)).sum()
        return value + 1e-3 * (b[1:] ** 2).sum(), z[own].T @ wrong + 2e-3 * np.r_[0, b[1:]]

    b = minimize(loss, np.zeros(z.shape[1]), jac=True).x
    weights = b[1:] / scale
    return np.r_[b[0] - weights @ mean, weights], 1 / (1 + np.exp(-z @ b))


def across(examples, names):
    """Probabilities of examples by fits that never saw their picture's kind, five rounds."""
    homes = sorted({e["home"] for e in examples})
    order = np.random.default_rng(0).permutation(homes).tolist()
    rounds = {home: place % 5 for place, home in enumerate(order)}
    own = np.array([rounds[e["home"]] for e in examples])
    found = np.zeros(len(examples))
    for r in range(5):
        found[own == r] = fit(examples, names, own != r)[1][own == r]
    return found


def calibration_error(scores, good, bins=10):
    """Expected calibration error, and the rows (count, mean score, share that is good)."""
    scores, good = np.asarray(scores), np.asarray(good, float)
    place = np.minimum((scores * bins).astype(int), bins - 1)
    rows = [
        (int(o.sum()), scores[o].mean(), good[o].mean()) for o in place == np.c_[:bins] if o.any()
    ]
    return sum(n * abs(a - b) for n, a, b in rows) / max(1, len(scores)), rows


def area(examples, scores):
    """Mean over folders of the area under the ROC of pairs against absent ones."""
    told = defaultdict(lambda: ([], []))
    for e, score in zip(examples, scores, strict=True):
        if e["mode"] != "mixed":
            told[Path(e["file"]).parents[1]][e["mode"] == "absent"].append(score)
    return np.mean([auroc(*both) for both in told.values()])


def measure(mixed, probability, least):
    """What competing entities make of the mixed contexts."""
    counts, absent, shown, maps = defaultdict(lambda: np.zeros(2)), [], [], []
    for found, rows, truths, _ in mixed:
        whole = replace(found, scores=torch.from_numpy(probability[rows]).float())
        some = whole.compete(least)
        masks = {n: m for n, m in zip(some.names, some.masks.numpy(), strict=True) if m.any()}
        for name in found.names:
            mask = masks.get(name, np.zeros(found.frame.size, bool))
            if name in truths:
                counts[name] += (mask & truths[name]).sum(), (mask | truths[name]).sum()
            else:
                absent.append(mask.mean() > SMALL)
        for name, score in zip(some.names, some.scores.tolist(), strict=True):
            if name in masks:
                shown.append((score, iou(masks[name], truths.get(name)) >= 0.5))
        asked = {*masks, *(truths.keys() & set(found.names))}
        nothing = np.zeros(found.frame.size, bool)
        maps.append([iou(masks.get(n, nothing), truths.get(n)) for n in asked])
    return {
        "mIoU": 100 * np.mean([i / max(u, 1) for i, u in counts.values()]),
        "absent": np.mean(absent),
        "maps": 100 * np.mean([np.mean(one) for one in maps if one]),
        "kinds": {k: 100 * i / max(u, 1) for k, (i, u) in sorted(counts.items())},
        "shown": tuple(np.array(shown, float).reshape(-1, 2).T),
    }


def asked_alone(mixed):
    """mIoU of the same pairs where each kind is asked for alone, and by kind."""
    counts = defaultdict(lambda: np.zeros(2))
    for *_, alone in mixed:
        for kind, both in alone.items():
            counts[kind] += both
    kinds = {k: 100 * i / max(u, 1) for k, (i, u) in sorted(counts.items())}
    return np.mean([*kinds.values()]), kinds


def lowest(mixed, probability):
    """The lowest level at which absent kinds are few enough, and what is measured there."""
    for least in LEVELS:
        found = measure(mixed, probability, least)
        if found["absent"] <= MOST:
            break
    return least, found


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", help="what is fitted on")
    parser.add_argument("--report", metavar="DIR", nargs="+", default=[], help="is told only")
    parser.add_argument("--table", action="store_true", help="what else was tried")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the contexts of six kinds")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="JSON file for the figures")
    parser.add_argument("--opts", nargs="+", default=[], help="config KEY VALUE pairs")
    return parser.parse_args(argv)


def report(title, examples, mixed, probability, least):
    """Print what calibrated scores do on some folders; returns the figures."""
    found, (alone, kinds) = measure(mixed, probability, least), asked_alone(mixed)
    print(f"\n{title}: contexts of {KINDS} kinds, ABSENT {least:g}")
    print(f"  AUROC of pairs against absent ones {area(examples, probability):.3f}")
    print(f"  absent kinds with a mask over {SMALL:.0%}: {found['absent']:.1%}")
    print(f"  mIoU of present kinds {found['mIoU']:.1f}, asked alone {alone:.1f}")
    print(
        "  " + ", ".join(f"{k} {v:.1f} ({kinds.get(k, 0):.1f})" for k, v in found["kinds"].items())
    )
    print(f"  mean IoU of label maps {found['maps']:.1f}")
    sets = {"contexts, shown masks": found["shown"]}
    for name, modes in (("pairs", ("present",)), ("pairs and absent", ("present", "absent"))):
        own = [i for i, e in enumerate(examples) if e["mode"] in modes]
        sets[name] = probability[own], [examples[i]["good"] for i in own]
    told = {
        "AUROC": area(examples, probability),
        "ABSENT": least,
        "alone": alone,
        **{k: found[k] for k in ("mIoU", "absent", "maps")},
    }
    for name, (scores, good) in sets.items():
        error, rows = calibration_error(scores, good)
        told[f"ECE {name}"] = error
        print(f"  expected calibration error, {name} ({len(scores)}): {error:.3f}")
        print("    masks " + " ".join(f"{n:5d}" for n, _, _ in rows))
        print("    score " + " ".join(f"{a:5.2f}" for _, a, _ in rows))
        print("    IoU ½ " + " ".join(f"{b:5.2f}" for _, _, b in rows), flush=True)
    return told


def main(argv=None):
    args = parse_args(argv)
    try:
        observer = Observer(args.config_file, args.device, args.opts)
        folders = [Folders(args.folders), *(Folders([place]) for place in args.report)]
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    own, *others = [observe(observer, one, args.seeds) for one in folders]
    told = {}
    if args.table:
        print(
            "| evidence | log loss | AUROC | ECE | ABSENT | mIoU | absent | label maps |\n"
            + "|---" * 8
            + "|"
        )
        for title, names in CANDIDATES.items():
            scores = across(own[0], names)
            pairs = [i for i, e in enumerate(own[0]) if e["mode"] != "mixed"]
            good = np.array([own[0][i]["good"] for i in pairs])
            chance = np.where(good, scores[pairs], 1 - scores[pairs])
            least, found = lowest(own[1], scores)
            told[title] = {k: found[k] for k in ("mIoU", "absent", "maps")}
            loss, error = -np.log(chance).mean(), calibration_error(*found["shown"])[0]
            shown = f"{loss:.3f} | {area(own[0], scores):.3f} | {error:.3f} | {least:g}"
            end = f"{found['mIoU']:.1f} | {found['absent']:.1%} | {found['maps']:.1f}"
            print(f"| {title} | {shown} | {end} |", flush=True)
    (offset, weight), scores = fit(own[0], ("both",))
    least, _ = lowest(own[1], across(own[0], ("both",)))
    numbers = [round(float(x), 2) for x in (offset, weight, SHARE * weight)]
    print(f"\nMODEL.SEGIC.REGIONS.CALIBRATION: {numbers}\nMODEL.SEGIC.TEST.ABSENT: {least:g}")
    told["fitted on"] = report("fitted on", *own, scores, least)
    for place, (examples, mixed) in zip(args.report, others, strict=True):
        names = "presence", "value"
        x = np.array([[1, *(e["evidence"][n] for n in names)] for e in examples])
        probability = 1 / (1 + np.exp(-x @ np.array(numbers)))
        told[place] = report(Path(place).name, examples, mixed, probability, least)
    if args.output:
        told |= {"CALIBRATION": numbers, "folders": args.folders}
        write_whole(args.output, json.dumps(told, indent=1, default=float))


if __name__ == "__main__":
    main()
