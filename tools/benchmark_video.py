#!/usr/bin/env python
"""Measures what a frame of a video costs with several objects, over one with one object.

    python tools/benchmark.py --video [--objects 1 5] [--config-file segic_demo.yaml]

Frames are synthetic, coloured discs on noise, of the canvas' size and of 16:9. Every number of
objects follows the same frames in turns, so that a machine that slows down slows all alike; times
are medians. "work" is counted: floating-point operations of matrix products, attention and
convolutions. Ratios are to the first number of objects. Small objects have two shots, see
``TEST.VIDEO.VIEWS``; one alone has one.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from segic_d2.config.load import load_config
from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.utils.devices import best_device, synchronize

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import hardware, markdown  # noqa: E402

HEAD = ["frame (px)", "objects", "shots", "work (GFLOP)", "ratio", "time (s)", "ratio"]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--objects", nargs="+", type=int, default=(1, 5))
    parser.add_argument("--frames", type=int, default=7, help="that are timed")
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="of the config")
    args = parser.parse_args(argv)
    cfg = load_config(args.config_file, ["MODEL.DEVICE", args.device, *args.opts])
    predictor, side = InContextPredictor(cfg), cfg.INPUT.CANVAS
    rows = []
    for size in ((side, side), (side * 9 // 16, side)):
        rows += measure(predictor, size, args.objects, args.frames, args.device)
    print(f"\n{hardware(args.device)}\n\n{markdown([HEAD, *map(shown, rows)])}")
    return 0


def measure(predictor, size, objects, frames, device):
    """A dict per number of objects, for frames of this (height, width)."""
    videos = {n: VideoPredictor(predictor) for n in objects}
    for n, video in videos.items():
        video.add(scene(0, size, max(objects))[0], scene(0, size, max(objects), n)[1])
    work, seconds = {}, {n: [] for n in objects}
    for n, video in videos.items():
        # attention in plain matrix products, which are counted on every device
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as flops:
            video.step(scene(1, size, max(objects))[0])
        work[n] = flops.get_total_flops()
    for number in range(2, 2 + frames):
        image, _ = scene(number, size, max(objects))
        for n, video in videos.items():
            synchronize(device)
            start = time.perf_counter()
            video.step(image)
            synchronize(device)
            seconds[n].append(time.perf_counter() - start)
    first, found = objects[0], []
    for n, video in videos.items():
        ratios = [own / other for own, other in zip(seconds[n], seconds[first], strict=True)]
        found.append(
            {
                "size": size,
                "objects": n,
                "shots": int(video.memory.read().shots.sum()),
                "work": work[n],
                "work_ratio": work[n] / work[first],
                "seconds": statistics.median(seconds[n]),
                "ratio": statistics.median(ratios),
            }
        )
    return found


def scene(number, size, discs, marked=None):
    """One frame uint8 (H, W, 3) of discs that move slowly, and the labels of the first ones."""
    (height, width), rng = size, np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3), np.uint8), (0, 0), 4)
    labels, y, x = np.zeros(size, np.uint8), *np.mgrid[:height, :width]
    for k in range(discs):
        across = (k + 0.5) * width / discs + number
        inside = np.hypot(y - height * (0.35 + 0.3 * (k % 2)), x - across) < 0.08 * width
        image[inside] = image[inside] // 3 + np.uint8(rng.integers(0, 170, 3))
        if marked is None or k < marked:
            labels[inside] = k + 1
    return image, labels


def shown(row):
    height, width = row["size"]
    return [
        *(f"{width} × {height}", str(row["objects"]), str(row["shots"])),
        *(f"{row['work'] / 1e9:.1f}", f"{row['work_ratio']:.2f}"),
        *(f"{row['seconds']:.2f}", f"{row['ratio']:.2f}"),
    ]


if __name__ == "__main__":
    sys.exit(main())
