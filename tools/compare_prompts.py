#!/usr/bin/env python
"""Tells whether a model compares with its prompt, on the embedded data.

    python tools/compare_prompts.py --config-file seggpt/shapes.yaml --weights model_final.pth

Prints mIoU of ``TEST.EPISODES`` one-shot episodes (``TEST.SEED``) of seen and of novel categories,
beside that of a toy: what has the reference's mean colour is the thing, at the distance that is
best on the training's categories. And the IoU of the masks of two prompts of different categories
on one target that shows both, its mean over targets: a model that finds what catches the eye has 1,
one that compares has next to 0. Two empty masks count as alike, 1. With ``--tune`` also what tuned
contexts gain: mIoU of pictures of a category that were never learned from, found by a context of
others before and after it was tuned on these; the two numbers are of the same pictures, and none of
them chooses anything.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from segic_d2.config.load import load_config
from segic_d2.data.episodes import draw_references, generator
from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from segic_d2.engine import evaluate
from segic_d2.engine.tune_context import tune_context
from segic_d2.engine.tune_data import read_labelled
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.files import write_whole

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.toy_model import MeanColour  # noqa: E402

TRAIN, SEEN, NOVEL = (f"shapes_{split}_coco" for split in ("train", "seen", "novel"))
SHOTS = 4  # references of a tuned context
NEAR = range(20, 85, 5)  # grey levels, distances that the toy tries


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="seggpt/shapes.yaml", help="shipped name or file")
    parser.add_argument("--weights", help="trained weights; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--targets", type=int, default=60, help="with two prompts")
    parser.add_argument("--tune", type=int, nargs="+", default=[], help="seeds of tuned contexts")
    parser.add_argument("--steps", type=int, default=300, help="of tuning")
    parser.add_argument("--rate", type=float, default=0.03, help="of tuning")
    parser.add_argument("--categories", type=int, default=3, help="that are tuned for")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="JSON file for all figures")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    return parser.parse_args(argv)


def accuracy(cfg, model, name):
    """mIoU of a dataset's one-shot episodes, %."""
    with tempfile.TemporaryDirectory() as folder:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR, cfg.DATASETS.TEST, cfg.TEST.EVALUATORS = folder, (name,), ("one_shot",)
        return evaluate(cfg, model, name)["one_shot"]["mIoU"]


def toy(cfg):
    """The best distance on the training's categories, and the toy's mIoU on seen and novel ones."""
    found = {near: accuracy(cfg, MeanColour(112, near), TRAIN) for near in NEAR}
    near = max(found, key=found.get)
    return near, *(accuracy(cfg, MeanColour(112, near), name) for name in (SEEN, NOVEL))


@torch.no_grad()
def alike(cfg, model, name, targets):
    """IoU of the masks of two prompts of different classes, of each of the first targets (at most)
    that show both."""
    source = Source(name)
    index, mapper = source.class_index(), EPISODE_MAPPER_REGISTRY.get("one_shot")(cfg, source)
    rng, found = generator(cfg.TEST.SEED), []
    for target in range(len(source.records)):
        classes = index.classes_of(target).tolist()
        if len(classes) < 2 or len(found) == targets:
            continue
        masks = []
        for c in classes[:2]:
            plan = {"target": target, "class": c, "episode": len(found)}
            x = mapper({**plan, "references": draw_references(rng, index, c, target, 1)})
            (own,) = model.segment(model.encode_images([x]), model.episode_contexts([x]))
            masks.append(own.masks[0])
        both, either = (int(x.sum()) for x in (masks[0] & masks[1], masks[0] | masks[1]))
        found.append(both / either if either else 1.0)
    return found


def tuned(model, seed, steps, rate, categories):
    """mIoU, %, of new pictures of categories before and after a context of each was tuned: the
    means over the first categories. After is what tuning found, were it worse."""
    (learned, names), (new, known) = (read_labelled([name], 448) for name in (TRAIN, SEEN))
    ids, found = {name: i for i, name in known.items()}, []
    for i, name in [*names.items()][:categories]:
        own = [replace(p, masks={i: p.masks[i]}) for p in learned if i in p.masks]
        test = [replace(p, masks={i: p.masks[j]}) for p in new for j in [ids[name]] if j in p.masks]
        how = {"steps": steps, "rate": rate, "seed": seed, "shots": SHOTS}
        _, report = tune_context(model, own, {i: name}, test, **how)
        found.append((report.before, report.after))
    return np.mean(found, 0).tolist()


def main(argv=None):
    args = parse_args(argv)
    try:
        cfg = load_config(args.config_file, args.opts)
        weights = cfg.MODEL.WEIGHTS if args.weights is None else args.weights
        model = InContextPredictor(cfg, weights=weights, device=args.device).model
        near, *toys = toy(cfg)
        ours = [accuracy(cfg, model, name) for name in (SEEN, NOVEL)]
        shared = [float(np.mean(alike(cfg, model, name, args.targets))) for name in (SEEN, NOVEL)]
        gains = {s: tuned(model, s, args.steps, args.rate, args.categories) for s in args.tune}
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print("| mIoU, % | seen | novel |\n|---|---|---|")
    print(f"| mean colour, nearer than {near} | {toys[0]:.1f} | {toys[1]:.1f} |")
    print(f"| the model | {ours[0]:.1f} | {ours[1]:.1f} |")
    print(f"| IoU of two prompts' masks | {shared[0]:.2f} | {shared[1]:.2f} |")
    for seed, (before, after) in gains.items():
        print(f"tuned context, seed {seed}: {before:.1f} before, {after:.1f} after")
    if args.output:
        content = {"near": near, "toy": toys, "model": ours, "alike": shared, "tuned": gains}
        write_whole(args.output, json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
