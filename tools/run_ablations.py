#!/usr/bin/env python
"""Runs the paper's ablations of strategies and instructions on the embedded data, over seeds:

    python tools/run_ablations.py --output output/ablations

Every row is one training with the same data, seed and steps. The table shows the one-shot mIoU on
the categories of training and on novel ones, mean ± standard deviation over the seeds. Rows of the
instructions have both strategies; rows of the strategies have all instructions. Each run leaves its
figures under ``--output``. So a table that was interrupted goes on where it was, and several seeds
may run side by side (``--seeds 0``, ``--seeds 1``) before one command prints all.

No text tower comes with the embedded data. ``--text-table`` takes a tower's vectors
(``precompute_text.py``). Without it a text is the sum of one random vector per word: names then
tell categories apart, but nothing of how they look.
"""

import argparse
import hashlib
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from segic_d2.config.load import load_config
from segic_d2.engine import EpisodeTrainer, evaluate
from segic_d2.modeling.text.encoder import save_text_table
from segic_d2.utils.devices import is_available
from segic_d2.utils.files import write_whole
from text_table import texts_of

TEST = {"seen": "shapes_seen_coco", "novel": "shapes_novel_coco"}
WORDS = "words.safetensors"  # in the output folder: vectors of random words
REVERSION, NEGATIVES = "MODEL.SEGIC.REVERSION.PROB", "MODEL.SEGIC.CROSS_ENTITY.ENABLED"
DENSE, POINT, VISUAL, META = (f"MODEL.SEGIC.{key}" for key in ("DENSE", "POINT", "VISUAL", "META"))


def _strategies(reversion, negatives):
    return {REVERSION: float(reversion), NEGATIVES: negatives}


def _instructions(geometric, visual, meta):
    return {DENSE: geometric, POINT: geometric, VISUAL: visual, META: meta}


ALL, BOTH = _instructions(True, True, True), _strategies(True, True)
ROWS = {
    "strategies none": {**ALL, **_strategies(False, False)},
    "strategies reversion": {**ALL, **_strategies(True, False)},
    "strategies negatives": {**ALL, **_strategies(False, True)},
    "strategies both = instructions all": {**ALL, **BOTH},
    "instructions none": {**_instructions(False, False, False), **BOTH},
    "instructions geometric": {**_instructions(True, False, False), **BOTH},
    "instructions visual": {**_instructions(False, True, False), **BOTH},
    "instructions meta": {**_instructions(False, False, True), **BOTH},
}


def main(argv=None):
    args = parse_args(argv)
    setup_logger(name="segic_d2").setLevel("ERROR")
    setup_logger(name="fvcore").setLevel("ERROR")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    base = configure(args, folder)
    shared = None  # the frozen backbone and what it made of the pictures, the same in every run
    for seed in args.seeds:
        for row in args.rows:
            file = result_file(folder, row, seed)
            cfg = configure_row(base, row, seed, folder)
            if file.is_file() and json.loads(file.read_text())["config"] == digest(cfg):
                continue
            found, shared = run(cfg, shared)
            write_whole(file, json.dumps({**found, "config": digest(cfg)}) + "\n")
            figures = ", ".join(f"{name} {found[name]:.1f}" for name in TEST)
            print(f"{row}, seed {seed}: {figures} ({found['seconds']:.0f} s)", flush=True)
    print("\n" + table(folder, args.rows, args.seeds))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", default="segic_shapes_S.yaml")
    parser.add_argument("--output", default="output/ablations")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--rows", nargs="+", default=tuple(ROWS), choices=tuple(ROWS))
    parser.add_argument("--text-table", default="", help="vectors of a true text tower")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    return parser.parse_args(argv)


def configure(args, folder):
    """The config that all rows share. Without a text table, random word vectors are written."""
    opts = [META, True, "MODEL.SEGIC.TEXT.NAME", "table", "DATASETS.TEST", ()]
    cfg = load_config(args.config_file, [*opts, *args.opts])
    if not is_available(cfg.MODEL.DEVICE):
        cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.SEGIC.TEXT.TABLE = args.text_table or str(folder / WORDS)
    if not args.text_table:
        texts = texts_of(cfg, [*cfg.DATASETS.TRAIN, *TEST.values()])
        save_text_table(
            cfg.MODEL.SEGIC.TEXT.TABLE, texts, word_vectors(texts, cfg.MODEL.SEGIC.TEXT.DIM)
        )
    return cfg


def word_vectors(texts, dim):
    """A unit vector per text, float32 (len(texts), dim): the sum of one random vector per word."""

    def word(text):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        return np.random.default_rng(seed).standard_normal(dim)

    vectors = np.stack([sum(word(w) for w in text.split() or [""]) for text in texts])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy(vectors.astype(np.float32))


def configure_row(base, row, seed, folder):
    cfg = base.clone()
    cfg.merge_from_list([x for pair in ROWS[row].items() for x in pair])
    cfg.SEED = seed
    cfg.OUTPUT_DIR = str(result_file(folder, row, seed).parent)
    return cfg


def result_file(folder, row, seed):
    return folder / f"{row.split(' = ')[0].replace(' ', '_')}-seed{seed}" / "results.json"


def digest(cfg):
    """A hash of a config without its output folder; a text table enters with its content."""
    cfg = cfg.clone()
    table = Path(cfg.MODEL.SEGIC.TEXT.TABLE)
    own = table == Path(cfg.OUTPUT_DIR).parent / WORDS  # which follows from the rest
    cfg.MODEL.SEGIC.TEXT.TABLE = "" if own else hashlib.sha256(table.read_bytes()).hexdigest()
    cfg.OUTPUT_DIR = ""
    return hashlib.sha256(cfg.dump().encode()).hexdigest()[:16]


def run(cfg, shared=None):
    """Train and test one row.

    Args:
        cfg: its config.
        shared: the frozen encoder of an earlier run with its feature memory, or None.

    Returns:
        {"seen", "novel": mIoU in percent, "seconds"}, and its frozen encoder.
    """
    started = time.perf_counter()
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    seed_all_rng(cfg.SEED)
    trainer = EpisodeTrainer(cfg)
    model = getattr(trainer.model, "module", trainer.model)
    if shared is not None and cfg.MODEL.BACKBONE.WEIGHTS not in (
        "",
        "random",
    ):  # which the seed makes
        model.encoder = shared
    trainer.train()
    found = {
        name: evaluate(cfg, model, dataset)["one_shot"]["mIoU"] for name, dataset in TEST.items()
    }
    return {**found, "seconds": time.perf_counter() - started}, model.encoder


def table(folder, rows, seeds):
    """A Markdown table of all runs: mean ± standard deviation (n − 1) in percent."""
    lines = [f"| row | {' | '.join(TEST)} |", "| --- |" + " --- |" * len(TEST)]
    for row in rows:
        results = [json.loads(result_file(folder, row, s).read_text()) for s in seeds]
        cells = []
        for name in TEST:
            values = [r[name] for r in results]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    lines.append(f"\none-shot mIoU in percent, seeds {', '.join(map(str, seeds))}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
