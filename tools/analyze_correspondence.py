#!/usr/bin/env python
"""Plots PCK against one-shot mIoU over backbones (the paper's Fig. 2).

    python tools/analyze_correspondence.py DINOv2-B=output/dinov2_b SAM-B=output/sam_b

Each folder holds the results of one backbone: ``results.json`` of the evaluation "pck", and of a
one-shot benchmark (``--benchmark coco20i``; the mean over the folds that are there). With ``--run``
a config file follows each label instead, and its backbone is evaluated first:

    python tools/analyze_correspondence.py --run B=configs/ablations/backbone_dinov2_B.yaml \\
        --weights B=output/b/model_final.pth --test "('coco20i_fold0',)" --evaluator few_shot

Writes ``correspondence.{json,csv,png,svg}``.
"""

import argparse
import csv
import io
import json
import os
import sys
from pathlib import Path

import numpy as np

from segic_d2.utils.files import whole_file, write_whole


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="+", metavar="LABEL=PLACE", help="folder, or config")
    parser.add_argument("--output", default="output/correspondence", help="folder to write to")
    parser.add_argument("--alpha", default="0.1", choices=["0.05", "0.1", "0.15"], help="of PCK")
    parser.add_argument("--per", default="image", choices=["image", "point"], help="PCK per what")
    parser.add_argument("--benchmark", default="coco20i", help="whose mIoU, as in results.json")
    parser.add_argument("--shots", type=int, default=1, help="of the benchmark")
    parser.add_argument("--run", action="store_true", help="places are config files: evaluate them")
    parser.add_argument("--weights", nargs="*", default=[], metavar="LABEL=FILE", help="for --run")
    parser.add_argument("--pairs", default="spair71k_test", help="dataset of pairs, for --run")
    parser.add_argument("--test", default="('coco20i_fold0',)", help="DATASETS.TEST, for --run")
    parser.add_argument("--evaluator", default="few_shot", help="TEST.EVALUATORS, for --run")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE, for --run")
    return parser.parse_args(argv)


def labelled(items):
    """Parse ["LABEL=PLACE", …] into a dict; ValueError names a label that is missing or double."""
    found = {}
    for item in items:
        label, equals, place = item.partition("=")
        if not (label and equals and place):
            raise ValueError(f"{item!r}: expected LABEL=PLACE")
        if label in found:
            raise ValueError(f"the label {label!r} is given twice")
        found[label] = place
    return found


def read_results(folder):
    """Read all ``results.json`` below a folder, sorted by path.

    Raises:
        FileNotFoundError: naming the folder without any.
        ValueError: naming the file that is no JSON object.
    """
    found = []
    for file in sorted(Path(folder).rglob("results.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is no JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("metrics"), dict):
            raise ValueError(f"{file} holds no metrics")
        found.append(content)
    if not found:
        raise FileNotFoundError(f"no results.json below {folder}")
    return found


def point(label, results, key, benchmark, shots):
    """The place of one backbone in the plot.

    Returns:
        dict ``label``, ``pck``, ``miou`` (percent), ``folds`` (those that the mean is over).

    Raises:
        ValueError: a result, which is named with its label, is missing or is there twice.
    """
    pck = [r["metrics"][key] for r in results if key in r["metrics"]]
    of = [r for r in results if r.get("benchmark") == benchmark and r.get("shots") == shots]
    folds = {r.get("fold"): r["metrics"]["mIoU"] for r in of if r.get("fold") != "mean"}
    if len(pck) != 1 or not folds:
        there = sorted({str(r.get("benchmark")) for r in results})
        raise ValueError(
            f"{label}: {len(pck)} results with {key!r} and {len(of)} of {benchmark!r} with {shots} "
            f"shots were found, expected one and at least one; there are {', '.join(there)}"
        )
    miou = float(np.mean(list(folds.values())))
    return {"label": label, "pck": pck[0], "miou": miou, "folds": sorted(folds, key=str)}


def correlation(points):
    """Pearson's and Spearman's coefficients; None for fewer than three backbones."""
    if len(points) < 3:
        return {"pearson": None, "spearman": None}
    values = np.array([[p["pck"], p["miou"]] for p in points]).T
    ranks = [[np.mean(np.flatnonzero(np.sort(row) == v)) for v in row] for row in values]
    return {
        name: float(np.corrcoef(x)[0, 1]) if np.std(x, axis=1).all() else None
        for name, x in (("pearson", values), ("spearman", np.array(ranks)))
    }


def run(config, folder, weights, args):
    """Evaluate a config's backbone on pairs and its model on the benchmark, into a folder."""
    from detectron2.modeling import build_model

    from segic_d2.checkpoint import SegICCheckpointer
    from segic_d2.config.load import load_config
    from segic_d2.data import check_data
    from segic_d2.engine import EpisodeTrainer

    def settings(*opts):
        cfg = load_config(config, [*args.opts, "OUTPUT_DIR", str(folder), *opts])
        check_data(cfg, training=False)
        return cfg

    memory = ("MODEL.SEGIC.FEATURE_MEMORY", 1000)
    pairs = settings("DATASETS.TEST", (args.pairs,), "TEST.EVALUATORS", ("pck",), *memory)
    shots = ("TEST.EVALUATORS", (args.evaluator,), "TEST.SHOTS", args.shots)
    benchmark = settings("DATASETS.TEST", args.test, *shots)
    model = build_model(pairs)
    SegICCheckpointer(model, complete=True).load(weights or pairs.MODEL.WEIGHTS)
    for cfg in (pairs, benchmark):
        EpisodeTrainer.test(cfg, model)


def plot(points, name, benchmark, path):
    """Draw a scatter plot with a label per backbone, as PNG and SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 4))
    axes.scatter([p["pck"] for p in points], [p["miou"] for p in points])
    for p in points:
        at = (p["pck"], p["miou"])
        axes.annotate(p["label"], at, xytext=(4, 4), textcoords="offset points")
    axes.set_xlabel(f"SPair-71k {name} (%)")
    axes.set_ylabel(f"{benchmark} mIoU (%)")
    axes.margins(0.15)
    figure.tight_layout()
    for suffix in (".png", ".svg"):
        drawn = io.BytesIO()
        figure.savefig(drawn, dpi=150, format=suffix[1:])
        write_whole(path.with_suffix(suffix), drawn.getbuffer())
    plt.close(figure)


def main(argv=None):
    args = parse_args(argv)
    backbones, weights = labelled(args.backbones), labelled(args.weights)
    unknown = sorted(set(weights) - set(backbones))
    if unknown:
        raise ValueError(f"--weights names {', '.join(unknown)}, which is no label")
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    if args.run:
        for label, config in list(backbones.items()):
            backbones[label] = output / label
            os.makedirs(backbones[label], exist_ok=True)
            run(config, backbones[label], weights.get(label), args)
    key = f"PCK@{args.alpha}_{args.per}"
    points = [
        point(label, read_results(folder), key, args.benchmark, args.shots)
        for label, folder in backbones.items()
    ]
    about = {"pck": key, "benchmark": args.benchmark, "shots": args.shots, **correlation(points)}
    path = output / "correspondence.json"
    write_whole(path, json.dumps({**about, "backbones": points}, indent=1))
    with whole_file(path.with_suffix(".csv")) as part, part.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["backbone", key, f"{args.benchmark} mIoU", "folds"])
        for p in points:
            folds = " ".join(map(str, p["folds"]))
            table.writerow([p["label"], f"{p['pck']:.2f}", f"{p['miou']:.2f}", folds])
    plot(points, key, f"{args.benchmark} {args.shots}-shot", path)
    print(path.with_suffix(".csv").read_text(), end="")
    print(f"Pearson {about['pearson']}, Spearman {about['spearman']}; plot: {path.stem}.png, .svg")
    return points


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
