#!/usr/bin/env python
"""Measures what a target costs each kind of model: what is done once per context, and per target.

    python tools/benchmark.py --models [--cases 1x1 4x1 1x4] [--count] [CONFIG …]

A case is entities x shots. Weights are random and pictures are noise, of which time does not
depend. "work" is counted: floating-point operations of matrix products, attention and convolutions.
On a CPU seconds are of the process, so that a machine that is shared does not count; the median of
``--repeats``. ``--count`` leaves time out. SegIC keeps of a reference what a target needs, SegGPT
sees both at once: its context costs nothing, and a target costs a pass per entity and shot.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from segic_d2.config.load import load_config
from segic_d2.structures.picture import Picture
from segic_d2.utils.devices import best_device, synchronize

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import hardware, markdown  # noqa: E402

CONFIGS = {  # with the canvas that is measured
    "segic_dinov2_S.yaml": 448,
    "segic_dinov2_L.yaml": 896,
    "seggpt/vit_large.yaml": 448,
}
HEAD = ["config", "canvas", "entities", "shots", "context: GFLOP", "s", "target: GFLOP", "s"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("configs", nargs="*", help="shipped names or files; default: three")
    parser.add_argument("--cases", nargs="+", default=[(1, 1)], type=case, metavar="NxK")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--count", action="store_true", help="work alone, no times")
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="of the configs")
    args = parser.parse_args(argv)
    rows = []
    for config in args.configs or CONFIGS:
        canvas = ["INPUT.CANVAS", CONFIGS[config]] if config in CONFIGS else []
        fixed = ["MODEL.DEVICE", args.device, "MODEL.BACKBONE.WEIGHTS", "random"]
        cfg = load_config(config, [*fixed, *canvas, "MODEL.SEGIC.META", False, *args.opts])
        torch.manual_seed(0)
        model = build_model(cfg).eval()
        for entities, shots in args.cases:
            found = measure(model, entities, shots, 0 if args.count else args.repeats)
            texts = ["" if x is None else f"{x:,.2f}" for x in found]
            rows.append([config, str(model.input.canvas), str(entities), str(shots), *texts])
            print(*rows[-1], flush=True)
    print(f"\n{hardware(args.device)}\n\n{markdown([HEAD, *rows])}")


def case(text):
    """ "4x2": (4 entities, 2 shots)."""
    entities, shots = map(int, text.split("x"))
    return entities, shots


@torch.no_grad()
def measure(model, entities, shots, repeats):
    """GFLOP and seconds of a context, and of a target with it: four numbers, None for no time."""
    side, random = model.input.canvas, np.random.default_rng(0)
    pictures = random.integers(0, 256, (entities * shots + 1, side, side, 3), np.uint8)
    mask = np.zeros((1, side, side), bool)
    mask[:, side // 4 : side // 2, side // 4 : side // 2] = True
    references = [
        {**model.input.reference(Picture(x), mask), "entity_ids": [i % entities + 1]}
        for i, x in enumerate(pictures[1:])
    ]
    target = model.input.target(Picture(pictures[0]))
    context = model.encode_context(references)

    def segment():
        model.segment(model.encode_images([{**target, "height": side, "width": side}]), context)

    cells = []
    for run in (lambda: model.encode_context(references), segment):
        # attention in plain matrix products, which are counted on every device
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            run()
        seconds = [timed(run, model.device) for _ in range(repeats)]
        cells += [flops.get_total_flops() / 1e9, statistics.median(seconds) if seconds else None]
    return cells


def timed(run, device):
    """Seconds of one run: of this process on a CPU, else of the clock."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    synchronize(device)
    start = clock()
    run()
    synchronize(device)
    return clock() - start


if __name__ == "__main__":
    sys.exit(main())
