"""Measures the cost of everything after the backbone, beside one bare forward of the backbone.

    python tools/benchmark.py
    python tools/benchmark.py --configs official/segic_dinov2_B.yaml --entities 80 --profile
    python tools/benchmark.py --training [--memory] …    what a training step costs, and the loader:
                                                         benchmark_training.py and its options
    python tools/benchmark.py --video …                  a video's frame with five objects, over one
    python tools/benchmark.py --models …                 what a target costs SegIC and SegGPT
    python tools/benchmark.py --metrics                  J and F of a video, ours over the plain way

One run measures, on random weights and one target: the backbone alone (the yardstick), our path
split into stages, and the released route written out plainly (``released_route.py``). Times are
medians after a warm-up. Their ratio to the yardstick matters. The yardstick is measured in turns
with the paths, so that a machine that slows down slows all alike. Memory is the peak over what was
held before. "floor" is the path's arithmetic over the backbone's, the ratio at the backbone's own
speed.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.modeling import build_backbone, build_sem_seg_head
from torch.utils.flop_counter import FlopCounterMode

from segic_d2.config.load import load_config
from segic_d2.evaluation import score_video
from segic_d2.evaluation.boundary import boundary_map
from segic_d2.modeling.segic.queries import Queries
from segic_d2.structures.frame import Frame
from segic_d2.utils.devices import best_device, synchronize
from segic_d2.utils.files import write_whole

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import hardware, markdown, peak_memory  # noqa: E402
from released_route import released_route  # noqa: E402

CONFIGS = ("official/segic_dinov2_B.yaml", "official/segic_dinov2_L.yaml")
STAGES = ("neck", "similarity", "prompts", "decoder", "masks")


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--training"]:
        import benchmark_training

        return benchmark_training.main(argv[1:])
    if argv[:1] == ["--video"]:
        import benchmark_video

        return benchmark_video.main(argv[1:])
    if argv[:1] == ["--models"]:
        import benchmark_models

        return benchmark_models.main(argv[1:])
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.metrics:
        return print(f"J and F, ours over whole dilated masks: {metrics_ratio(args.repeats):.2f}")
    rows = [row for config in args.configs for row in benchmark(config, args)]
    print(f"\n{hardware(args.device)}\n")
    print(table(rows))
    if args.output:
        content = {"hardware": hardware(args.device), "rows": rows}
        write_whole(args.output, json.dumps(content))


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--training", action="store_true", help="first: of training, see above")
    parser.add_argument("--video", action="store_true", help="first: of a video's frame, see above")
    parser.add_argument("--models", action="store_true", help="first: of a target, see above")
    parser.add_argument("--metrics", action="store_true", help="only J and F of videos, see above")
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="shipped name or YAML file")
    parser.add_argument("--entities", nargs="+", type=int, default=(1, 20, 80))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--no-released", action="store_true", help="leave the plain route out")
    parser.add_argument("--profile", action="store_true", help="also where our time goes, by kind")
    parser.add_argument("--output", default="", help="JSON file for the figures")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the configs")
    args = parser.parse_args(argv)
    for name in ("training", "video", "models"):
        if getattr(args, name):
            parser.error(f"--{name} comes first")
    return args


@torch.no_grad()
def benchmark(config, args):
    """Measure one row of figures per number of entities."""
    random = "MODEL.BACKBONE.WEIGHTS", "random"  # time does not depend on them
    cfg = load_config(config, ["MODEL.DEVICE", args.device, *random, *args.opts])
    torch.manual_seed(0)
    backbone = build_backbone(cfg).to(args.device).eval()
    head = build_sem_seg_head(cfg, backbone.output_shape()).to(args.device).eval()
    image = torch.randn(1, 3, cfg.INPUT.CANVAS, cfg.INPUT.CANVAS, device=args.device)
    feature = cfg.MODEL.SEGIC.IN_FEATURE
    with FlopCounterMode(display=False) as flops:
        features = backbone(image)[feature].float()
    backbone_flops = flops.get_total_flops()
    rows = []
    for count in args.entities:
        queries = random_queries(count, features.shape[1], cfg.MODEL.SEGIC.TEXT.DIM, args.device)
        routes = {"ours": lambda stage, q=queries: our_route(head, features, q, stage)}
        if not args.no_released:
            routes["released"] = lambda stage, q=queries: released_route(head, features, q, stage)
        results, floors, memory = {}, {}, {}
        for name, route in routes.items():  # the warm-up
            with FlopCounterMode(display=False) as flops:
                results[name] = route(no_stage)[0]
            floors[name] = flops.get_total_flops() / backbone_flops
        seconds = {name: [] for name in ("backbone", *routes)}
        stages = {name: Stages(args.device) for name in routes}
        for _ in range(args.repeats):
            seconds["backbone"].append(timed(lambda: backbone(image), args.device))
            for name, route in routes.items():
                run = lambda route=route, stage=stages[name]: route(stage)  # noqa: E731
                seconds[name].append(timed(run, args.device))
        if args.profile:
            print(profile(lambda run=routes["ours"]: run(no_stage)))
        for name, route in routes.items():
            memory[name] = peak_memory(lambda route=route: route(no_stage), args.device)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        row = {
            "model": cfg.MODEL.TIMM.NAME,
            "channels": features.shape[1],
            "canvas": cfg.INPUT.CANVAS,
            "entities": count,
            "backbone_s": medians["backbone"],
        }
        for name in routes:
            row[name] = {
                "ratio": medians[name] / medians["backbone"],
                "floor": floors[name],
                "stages": stages[name].medians(args.repeats, medians["backbone"]),
                "memory_mb": memory[name],
            }
        if "released" in results:
            largest = results["released"].abs().max()
            difference = (results["ours"] - results["released"]).abs().max() / largest
            row["difference"] = difference.item()
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def metrics_ratio(repeats):
    """Time of ``score_video`` over that of dilating whole masks of 480p with a disk."""
    y, x = np.mgrid[:480, :854]
    truth = np.uint8([sum(k * (np.hypot(y - 240, x - 200 * k) < 30 * k) for k in (1, 2, 3))] * 6)
    found, disk = np.roll(truth, (3, 4), (1, 2)), np.uint8(np.hypot(*np.mgrid[-8:9, -8:9]) <= 8)

    def plain():
        for a, b in ((truth[t] == k, found[t] == k) for t in range(1, 5) for k in (1, 2, 3)):
            edges = [boundary_map(mask).astype(np.uint8) for mask in (a, b)]
            near = [e * cv2.dilate(o, disk) for e, o in (edges, edges[::-1])]
            assert all(pixels.sum() for pixels in (a & b, a | b, *edges, *near))

    runs = (lambda: score_video(truth, found)), plain
    seconds = np.median([[timed(run, "cpu") for run in runs] for _ in range(repeats)], axis=0)
    return seconds[0] / seconds[1]


def random_queries(count, channels, text_dim, device):
    """Make entities of one target, with random unit prototypes and text vectors."""
    vectors = torch.nn.functional.normalize(torch.randn(count, channels), dim=1)
    queries = Queries(
        image_index=torch.zeros(count, dtype=torch.long),
        counts=[count],
        vectors=vectors[:, None],
        prototypes=vectors[:, None] * channels**0.5,
        shots=torch.ones(count, 1, dtype=torch.bool),
        meta=torch.randn(count, text_dim),
    )
    for name in ("image_index", "vectors", "prototypes", "shots", "meta"):
        setattr(queries, name, getattr(queries, name).to(device))
    return queries


def our_route(head, features, queries, stage):
    """Run the head as inference does, and make masks at canvas size."""
    crossing = torch.ones(1, dtype=torch.bool, device=features.device)
    size = (head.canvas, head.canvas)
    with stage.inside(head) if stage is not no_stage else contextlib.nullcontext():
        logits = head(features, [size], queries, crossing=crossing).logits
    with stage("masks"):
        masks = Frame(head.canvas, size, size).masks(logits)
    return logits, masks


@contextlib.contextmanager
def no_stage(_):
    """A stage whose time is not measured."""
    yield


class Stages:
    """Sums the seconds of each named stage over all runs."""

    def __init__(self, device):
        self.device, self.runs = device, {name: [] for name in STAGES}

    @contextlib.contextmanager
    def __call__(self, name):
        synchronize(self.device)
        start = time.perf_counter()
        yield
        synchronize(self.device)
        self.runs[name].append(time.perf_counter() - start)

    @contextlib.contextmanager
    def inside(self, head):
        """Time the parts of a head while it runs; the rest of its time is the decoder's."""
        encoder = head.prompt_encoder
        parts = [
            (head.neck, "forward", "neck"),
            (head.similarity, "maps", "similarity"),
            (head, "to_canvas", "prompts"),
            (head, "point_tokens", "prompts"),
            (head, "project", "prompts"),
            (head, "context_tokens", "prompts"),
            (encoder, "hidden_masks", "prompts"),
        ]
        kept = [getattr(owner, name) for owner, name, _ in parts]
        before = self.total()
        for (owner, name, stage), function in zip(parts, kept, strict=True):
            owner.__dict__[name] = self._timed(function, stage)
        try:
            start = time.perf_counter()
            yield
            synchronize(self.device)
            whole = time.perf_counter() - start
        finally:
            for owner, name, _ in parts:
                del owner.__dict__[name]
        self.runs["decoder"].append(whole - (self.total() - before))

    def _timed(self, function, stage):
        def call(*args, **kwargs):
            with self(stage):
                return function(*args, **kwargs)

        return call

    def total(self):
        return sum(map(sum, self.runs.values()))

    def medians(self, repeats, unit):
        """Median over the runs of each stage's share of ``unit`` seconds.

        A stage that is entered several times in a run counts with its sum.
        """
        shares = {}
        for name, values in self.runs.items():
            per_run = len(values) // repeats
            sums = [sum(values[i * per_run : (i + 1) * per_run]) for i in range(repeats)]
            shares[name] = statistics.median(sums) / unit
        return shares


KINDS = (  # of operators, by the first name that fits
    ("matrix products", ("addmm", "mm", "bmm", "linear", "matmul")),
    ("attention", ("scaled_dot_product", "softmax")),
    ("convolutions", ("conv", "mkldnn")),
    ("LayerNorm and GELU", ("layer_norm", "gelu")),
    ("interpolation and arg-max", ("upsample", "max")),
)


def profile(run):
    """One line with the share of each kind of operator in the time of one run."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if best_device() != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        run()
    spent = dict.fromkeys([*(kind for kind, _ in KINDS), "all else"], 0.0)
    for event in profiler.key_averages():
        name = event.key.removeprefix("aten::").strip("_")
        found = (kind for kind, names in KINDS if name.startswith(names))
        time_us = event.self_device_time_total or event.self_cpu_time_total
        spent[next(found, "all else")] += time_us
    whole = sum(spent.values())
    return ", ".join(f"{kind} {100 * x / whole:.0f} %" for kind, x in spent.items())


def timed(run, device):
    synchronize(device)
    start = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - start


def table(rows):
    """The figures as Markdown; times are multiples of the bare backbone's."""
    head = ["C", "entities", "backbone (s)", "path", "total", "floor", *STAGES, "peak (MB)"]
    lines = [head]
    for row in rows:
        for name in ("ours", "released"):
            if name not in row:
                continue
            r = row[name]
            memory = "–" if r["memory_mb"] is None else f"{r['memory_mb']:.0f}"
            lines.append(
                [
                    *(str(row["channels"]), str(row["entities"]), f"{row['backbone_s']:.2f}", name),
                    *(f"{r['ratio']:.4f}", f"{r['floor']:.4f}"),
                    *(f"{r['stages'][s]:.4f}" for s in STAGES),
                    memory,
                ]
            )
    text = markdown(lines)
    different = [row["difference"] for row in rows if "difference" in row]
    if different:
        text += f"\n\nlargest difference of logits, of the largest logit: {max(different):.1e}"
    return text


if __name__ == "__main__":
    main()
