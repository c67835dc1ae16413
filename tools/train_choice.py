#!/usr/bin/env python
"""Trains the learned choice among regions (MODEL.SEGIC.REGIONS.LEARNED) on cached evidence.

    python tools/train_choice.py CACHE --scenes composites_choice_train --photographs DIR \\
        --folders datasets/real_validation{,_B,_C} --output choice.safetensors

Backbone, matching and regions are frozen: what they say of an episode is collected once and kept
in CACHE, a block of scenes a file; what is there already is not collected again. --photographs is
a folder of pictures without masks: what the model's own regions say stands out in one is the thing,
in two views. --folders are those of tools/evaluate_pairs.py, to choose the step on. --output is the
network of the best seed, for that key. A row of the table is a seed: mIoU of the folders and their
mean. --seconds bounds each training, --collect-seconds the collecting.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from segic_d2.config.load import load_config
from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from segic_d2.modeling.segic.regions import learned as module
from segic_d2.modeling.segic.regions.learned import LearnedChoice
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.files import write_whole

sys.path.insert(0, str(Path(__file__).resolve().parent))
from choice_evidence import Collector, collect, collect_folder, read_scenes  # noqa: E402
from choice_pseudo import pseudo  # noqa: E402
from choice_training import GROUPS, Measured, draw_changes, stacked, train  # noqa: E402

CHAPTER = 60  # scenes that show each other's kinds
PHOTOGRAPHS = 40  # of a page


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("cache", metavar="CACHE", type=Path, help="folder of the evidence")
    add("--config-file", default="segic_demo.yaml", help="shipped name or file")
    add("--scenes", nargs="*", default=[], help="data sets of scenes with masks")
    add("--photographs", nargs="*", default=[], help="folders of pictures without masks")
    add("--folders", nargs="*", default=[], help="folders of class folders, to choose on")
    add("--report", nargs="*", default=[], help="such folders that nothing is chosen on")
    add("--blocks", type=int, default=16, help="of each data set")
    add("--pages", type=int, default=3, help="of 40 photographs of each folder of them")
    add("--block", type=int, default=30, help="scenes that are read of each 60, or of so many")
    add("--canvas", type=int, default=336, help="of training; the folders' is the config's")
    add("--collect-seconds", type=float, default=0, help="of collecting; 0: all blocks")
    add("--episodes", type=int, default=0, help="that are learnt from; 0: all")
    add("--seeds", type=int, nargs="*", default=[0], help="none: only collect")
    add("--steps", type=int, default=200)
    add("--seconds", type=float, default=0, help="of a training; 0: all steps")
    add("--period", type=int, default=50, help="steps between two looks at the folders")
    add("--batch", type=int, default=16)
    add("--rate", type=float, default=1e-3)
    add("--decay", type=float, default=1e-2)
    add("--width", type=int, default=64)
    add("--depth", type=int, default=0, help="layers of attention among regions")
    add("--cells", action="store_true", help="also what a cell is beside its region")
    add("--choice", type=float, default=1.0, help="weight of the choice's loss")
    add("--hold", type=float, default=0.5, help="weight of the square of what is added")
    add("--any-size", action="store_true", help="masks may grow and shrink as a whole, too")
    add("--jitter", type=float, default=0.1, help="of an episode's evidence, in deviations")
    add("--without", nargs="*", choices=GROUPS, default=[], help="channels that are left out")
    add("--exact", action="store_true", help="boundaries, and --report, too")
    add("--device", default="cpu", help="of encoding and training")
    add("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    add("--output", help="file of the best seed's network")
    add("--draw", help="picture of what it changes most in the folders")
    add("--log", help="JSON file for all figures")
    return parser.parse_args(argv)


def build(args, opts=()):
    """A collector of a config's model, whose learned part adds nothing."""
    cfg = load_config(args.config_file, [*opts])
    model = InContextPredictor(cfg, device=args.device).model
    if model.sem_seg_head.matcher is None:
        raise ValueError(f"{args.config_file}: its head chooses no regions")
    model.sem_seg_head.matcher.learned = LearnedChoice().eval().to(model.device)
    model.readout.second_look = 0.0  # what is learnt is said at the first
    model.encoder.memory = FeatureMemory(3000)
    return Collector(model)


class Cache:
    """Evidence by name, collected where it is not there."""

    def __init__(self, args):
        self.args, self.collectors, self.start = args, {}, time.monotonic()
        args.cache.mkdir(parents=True, exist_ok=True)

    @property
    def late(self):
        bound = self.args.collect_seconds
        return bool(bound) and time.monotonic() - self.start > bound

    def __call__(self, name, find, opts=()):
        """What ``find`` says of a collector; None: there is no time for it."""
        path = self.args.cache / f"{name}.pt"
        if not path.exists():
            if self.late:
                return None
            if opts not in self.collectors:
                self.collectors[opts] = build(self.args, opts)
            start = time.monotonic()
            torch.save(find(self.collectors[opts]), path)
            print(f"{path}: {time.monotonic() - start:.0f} s", flush=True)
        return torch.load(path, weights_only=False)

    def examples(self):
        """Examples of all scenes and photographs, block by block of each in turn."""
        blocks, opts = [], ("INPUT.CANVAS", self.args.canvas)
        for name in self.args.scenes:
            scenes = read_scenes(name)
            every = max(CHAPTER, self.args.block)
            for i in range(min(self.args.blocks, -(-len(scenes) // every))):
                part = scenes[i * every : i * every + self.args.block]
                blocks.append((i, f"{name}_{self.args.canvas}_{i:03d}", _scenes(part, i)))
        for folder in self.args.photographs:
            files = sorted(str(file) for file in Path(folder).glob("*.jpg"))
            files = [files[i] for i in np.random.default_rng(5).permutation(len(files))]
            for i in range(min(self.args.pages, -(-len(files) // PHOTOGRAPHS))):
                part = files[i * PHOTOGRAPHS : (i + 1) * PHOTOGRAPHS]
                key = f"{Path(folder).name}_{self.args.canvas}_{i:03d}"
                blocks.append((i, key, _photographs(part, i)))
        found = []
        for _, name, find in sorted(blocks, key=lambda x: x[0]):
            found += self(name, find, opts) or []
        return found

    def folder(self, path):
        held = self(f"folder_{Path(path).name}", lambda c: collect_folder(c, PairFolder(path)))
        if held is None:
            raise ValueError(f"--collect-seconds {self.args.collect_seconds:g}: no time for {path}")
        return Measured(held)


def _scenes(part, i):
    return lambda collector: list(collect(collector, part, np.random.default_rng([0, i])))


def _photographs(part, i):
    return lambda collector: list(pseudo(collector, part, np.random.default_rng([1, i])))


def mean_of(figures):
    return {**figures, "mean": sum(figures.values()) / len(figures)}


def shown(figures):
    return " | ".join(f"{figures[name]:.1f}" for name in figures)


def run(args):
    """Collect, train, measure; returns values of JSON."""
    if args.seeds and not args.folders:
        raise ValueError("no --folders to choose a step on")
    cache = Cache(args)
    folders = {Path(path).name: cache.folder(path) for path in args.folders}
    report = {Path(path).name: cache.folder(path) for path in args.report}
    examples = cache.examples()
    if args.seeds and not examples:
        raise ValueError("no episodes: --scenes and --photographs give none")
    if not args.seeds:
        return {"episodes": len(examples)}
    if args.episodes:
        kept = np.random.default_rng(7).permutation(len(examples))[: args.episodes]
        examples = [examples[i] for i in kept]
    data = stacked(examples)
    if args.any_size:
        module.hold_size = lambda added, level, count: added

    def look(learned):
        return mean_of({name: one.iou(learned) for name, one in folders.items()})

    untrained = look(None)
    print(f"{len(examples)} episodes")
    print("| | step | " + " | ".join(untrained) + " |\n|" + "---|" * (len(untrained) + 2))
    print(f"| untrained | | {shown(untrained)} |", flush=True)
    found, best = {"episodes": len(examples), "untrained": untrained, "seeds": {}}, None
    for seed in args.seeds:
        learned, curve = train(data, args, look, seed)
        top = max(curve, key=lambda x: x["mean"])
        figures = {name: top[name] for name in untrained}
        print(f"| seed {seed} | {top['step']} | {shown(figures)} |", flush=True)
        found["seeds"][seed] = {"curve": curve, "best": top}
        if args.exact:
            exact = {n: one.measure(learned) for n, one in (folders | report).items()}
            told = (f"{n} {x['IoU']:.1f} ({x['boundary_IoU']:.1f})" for n, x in exact.items())
            print(f"  IoU (boundary): {', '.join(told)}", flush=True)
            found["seeds"][seed]["exact"] = exact
        if best is None or top["mean"] > best[0]:
            best = top["mean"], learned
    finish(args, found, folders, best[1])
    return found


def finish(args, found, folders, learned):
    """Write what was asked for, and print the mean of the seeds."""
    if args.output:
        learned.save(args.output)
    if args.draw:
        draw_changes(folders.values(), learned, args.draw)
    if len(args.seeds) > 1:
        each = [x["best"] for x in found["seeds"].values()]
        means = {name: np.mean([x[name] for x in each]) for name in found["untrained"]}
        print(f"| mean | | {shown(means)} |")


def main(argv=None):
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        found = run(args)
    except (KeyError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    if args.log:
        write_whole(args.log, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
