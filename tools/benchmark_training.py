"""Measures what a training step costs, where its time goes, and how fast the loader is.

    python tools/benchmark.py --training --config segic_dinov2_S.yaml
    python tools/benchmark.py --training --memory --config segic_dinov2_L.yaml --entities 1 10

One run measures, on random weights and on scikit-image's photographs at COCO's size:

- loader: our mappers beside Detectron2's own DatasetMapper with the same augmentations on the same
  images. Both run in one process on one thread, as in a worker. "ratio" is our episodes per second
  over its images per second; an episode has two views.
- steps: without the feature cache, while it is filled, and with it, in turns. Samples/s are given
  as a multiple of the first. A step is split into waiting for data (``--workers``), backbone, the
  rest of the forward pass, backward and optimizer.
- ``--memory``: what a step holds. On a CPU it is counted tensor by tensor (``live_memory.py``), the
  backbone without computing anything. Steps with 2 and 4 entities per image give greater numbers by
  a straight line. On a GPU it is measured.

Times are medians. The text encoder is left out, because training reads its vectors from a table.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.utils.logger import setup_logger

from segic_d2.config.load import load_config
from segic_d2.data import build_train_loader, set_cache
from segic_d2.data.augmentation.transforms import instance_augmentations, semantic_augmentations
from segic_d2.data.build import EpisodeStream
from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from segic_d2.engine import EpisodeTrainer, open_feature_cache
from segic_d2.utils.devices import best_device, synchronize
from segic_d2.utils.files import write_whole

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import hardware, markdown  # noqa: E402
from photographs import register_photographs  # noqa: E402
from step_memory import memory, memory_table  # noqa: E402

DATASET = "benchmark_photographs"
AUGMENTATIONS = {"semantic": semantic_augmentations, "instance": instance_augmentations}
STAGES = ("data", "backbone", "forward", "backward", "optimizer")


def main(argv=None):
    args = parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    cfg = configure(args)
    with tempfile.TemporaryDirectory() as folder:
        if args.memory:
            figures = {"memory": memory(cfg, args.entities)}
            text = memory_table(figures["memory"])
        else:
            register_photographs(DATASET, folder, args.images, args.size)
            cfg.INPUT.FEATURE_CACHE.DIR = str(Path(folder) / "cache")
            figures = {"loader": loader(cfg, args.episodes, args.repeats)}
            print(json.dumps(figures), flush=True)  # the steps may take long
            figures["steps"] = steps(cfg, args.steps, args.repeats)
            text = f"{loader_table(figures['loader'])}\n\n{step_table(figures['steps'])}"
    figures["hardware"] = hardware(args.device)
    print(f"\n{figures['hardware']}, {args.config}, canvas {cfg.INPUT.CANVAS}\n\n{text}")
    if args.output:
        write_whole(args.output, json.dumps(figures))


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="segic_dinov2_L.yaml", help="shipped name or YAML file")
    parser.add_argument("--memory", action="store_true", help="what a step holds, instead of times")
    parser.add_argument("--entities", nargs="+", type=int, default=(1, 10), help="with --memory")
    parser.add_argument("--batch", type=int, default=4, help="targets per step")
    parser.add_argument("--images", type=int, default=16, help="photographs")
    parser.add_argument("--size", nargs=2, type=int, default=(480, 640), help="height, width, px")
    parser.add_argument("--views", type=int, default=2, help="INPUT.VIEWS_POOL of the steps")
    parser.add_argument("--episodes", type=int, default=32, help="per repeat, of the loader")
    parser.add_argument("--steps", type=int, default=4, help="per repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--workers", type=int, default=0, help="of the steps' loader; 0: no process"
    )
    parser.add_argument("--device", default=best_device())
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--output", default="", help="JSON file for the figures")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    return parser.parse_args(argv)


def configure(args):
    setup_logger(name="segic_d2").setLevel("ERROR")
    cfg = load_config(args.config, ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.SEGIC.META", False])
    cfg.merge_from_list(args.opts)
    cfg.MODEL.DEVICE = args.device
    cfg.SOLVER.IMS_PER_BATCH = args.batch
    cfg.DATALOADER.NUM_WORKERS = args.workers
    cfg.DATASETS.TRAIN = (DATASET, DATASET)
    cfg.DATASETS.EPISODE_MAPPERS = tuple(AUGMENTATIONS)
    cfg.DATASETS.DRAW = ()
    cfg.INPUT.VIEWS_POOL = args.views
    return cfg


# ---- loader ------------------------------------------------------------------------------------


def loader(cfg, episodes, repeats):
    """Measure, per mapper, its episodes/s, DatasetMapper's images/s, and their ratio."""
    cfg = cfg.clone()
    cfg.INPUT.VIEWS_POOL = 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has
    rows, source, records = [], Source(DATASET), DatasetCatalog.get(DATASET)
    for name, augmentations in AUGMENTATIONS.items():
        ours = EPISODE_MAPPER_REGISTRY.get(name)(cfg, source)
        plans = [EpisodeStream([ours], seed=0)[i] for i in range(episodes)]
        theirs = DatasetMapper(
            is_train=True,
            augmentations=augmentations(cfg).augs,
            image_format="RGB",
            use_instance_mask=True,
            instance_mask_format="bitmask",
        )
        targets = [records[plan["target"]] for plan in plans]
        seconds = {"ours": [], "detectron2": []}
        for _ in range(repeats):
            for key, function, items in (
                ("ours", ours, plans),
                ("detectron2", theirs, targets),
            ):
                start = time.perf_counter()
                for item in items:
                    function(item)
                seconds[key].append((time.perf_counter() - start) / episodes)
        ratios = [b / a for a, b in zip(seconds["ours"], seconds["detectron2"], strict=True)]
        rows.append(
            {
                "mapper": name,
                "episodes_per_s": 1 / statistics.median(seconds["ours"]),
                "images_per_s": 1 / statistics.median(seconds["detectron2"]),
                "ratio": statistics.median(ratios),
            }
        )
    torch.set_num_threads(threads)
    return rows


def loader_table(rows):
    lines = [["mapper", "episodes/s", "DatasetMapper images/s", "ratio"]]
    for r in rows:
        figures = f"{r['episodes_per_s']:.1f}", f"{r['images_per_s']:.1f}", f"{r['ratio']:.2f}"
        lines.append([r["mapper"], *figures])
    return markdown(lines)


# ---- steps -------------------------------------------------------------------------------------


def steps(cfg, count, repeats):
    """Measure samples per second and shares of a step, per way to use the feature cache."""
    torch.manual_seed(0)
    model = EpisodeTrainer.build_model(cfg).train()
    optimizer = EpisodeTrainer.build_optimizer(cfg, model)
    cache = open_feature_cache(cfg, model)
    timed_steps(cfg, model, optimizer, 1, None)  # the warm-up
    runs = {"no cache": [], "cold cache": [timed_steps(cfg, model, optimizer, count, cache)]}
    runs["warm cache"] = []
    for _ in range(repeats):
        runs["no cache"].append(timed_steps(cfg, model, optimizer, count, None))
        runs["warm cache"].append(timed_steps(cfg, model, optimizer, count, cache))
    rows, plain = [], None
    for name, all_seconds in runs.items():
        seconds = {s: statistics.median(x[s] for x in all_seconds) for s in STAGES}
        whole = sum(seconds.values())
        plain = plain or whole
        rows.append(
            {
                "path": name,
                "samples_per_s": cfg.SOLVER.IMS_PER_BATCH / whole,
                "ratio": plain / whole,
                "shares": {s: seconds[s] / whole for s in STAGES},
                "backbone_images": all_seconds[-1]["images"],
            }
        )
    return rows


def timed_steps(cfg, model, optimizer, count, cache):
    """Time the first ``count`` steps: mean seconds per stage, and images that were encoded."""
    data = build_train_loader(cfg)
    set_cache(data, cache)
    model.encoder.store = cache
    seconds = dict.fromkeys((*STAGES, "images"), 0.0)
    encode, backbone = model.encode_images, model.backbone.forward
    clock = Clock(cfg.MODEL.DEVICE)

    def timed_encode(images, **options):
        clock.lap(seconds, "forward")
        features = encode(images, **options)
        clock.lap(seconds, "backbone")
        return features

    def counted(images):
        seconds["images"] += len(images)
        return backbone(images)

    model.encode_images, model.backbone.forward = timed_encode, counted
    batches = islice(data, count)
    clock.start()
    try:
        for batch in batches:
            clock.lap(seconds, "data")
            with torch.autocast(model.device.type, torch.bfloat16, cfg.SOLVER.AMP.ENABLED):
                loss = sum(model(batch).values())
            clock.lap(seconds, "forward")
            optimizer.zero_grad()
            loss.backward()
            clock.lap(seconds, "backward")
            optimizer.step()
            clock.lap(seconds, "optimizer")
    finally:
        del model.encode_images, model.backbone.forward  # the methods again
    return {k: v if k == "images" else v / count for k, v in seconds.items()}


class Clock:
    """A stop watch. A lap adds the time since the last one to a stage."""

    def __init__(self, device):
        self.device = device

    def start(self):
        synchronize(self.device)
        self.last = time.perf_counter()

    def lap(self, seconds, stage):
        before = self.last
        self.start()
        seconds[stage] += self.last - before


def step_table(rows):
    lines = [["path", "samples/s", "ratio", *STAGES]]
    for r in rows:
        shares = (f"{r['shares'][s]:.0%}" for s in STAGES)
        lines.append([r["path"], f"{r['samples_per_s']:.3g}", f"{r['ratio']:.2f}", *shares])
    return markdown(lines)


if __name__ == "__main__":
    main()
