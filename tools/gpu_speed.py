"""How quick a device is: pictures with a cached context, training steps, compiled backbone.

    python tools/gpu_speed.py pictures|training|compiled [--toy]   on SEGIC_D2_TEST_DEVICE

DINOv2-L's geometry at canvas 896 with random weights and without text; as a toy two blocks of
DINOv2-S at canvas 112, whose figures mean nothing. Times are medians after a warm-up. float32 is as
torch has it: TF32 in convolutions, not in matrix products.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from segic_d2.config.load import load_config
from segic_d2.engine import EpisodeTrainer
from segic_d2.structures.context import PROTOTYPES, Context
from segic_d2.utils.devices import peak_memory, reset_peak_memory, synchronize

sys.path.insert(0, str(Path(__file__).resolve().parent))
from step_memory import one_step, synthetic_episodes  # noqa: E402

DEVICE = os.environ.get("SEGIC_D2_TEST_DEVICE", "cuda")
REPEATS, BATCH, ENTITIES = 5, 8, (1, 20, 80)


def settings(toy, *opts):
    """The paper's L config on this device; small as a toy."""
    opts = ["MODEL.BACKBONE.WEIGHTS", "", "MODEL.SEGIC.META", False, "MODEL.DEVICE", DEVICE, *opts]
    opts += ["MODEL.SEGIC.FEATURE_MEMORY", 0, "SOLVER.IMS_PER_BATCH", 2 if toy else 4]
    if toy:
        opts += ["INPUT.CANVAS", 112, "MODEL.TIMM.BLOCKS", (0, 1), "MODEL.SEGIC.DECODER.WIDTH", 64]
        opts += ["MODEL.SEGIC.DECODER.MLP", 128, "MODEL.SEGIC.LOSS.NUM_POINTS", 512]
    return load_config("segic_dinov2_S.yaml" if toy else "segic_dinov2_L.yaml", opts)


def say(name, **figures):
    known = {key: value for key, value in figures.items() if value is not None}
    print(f"RESULT {json.dumps({'name': name, **known})}", flush=True)


def milliseconds(run, repeats):
    """Median over ``repeats`` of one run, after two that do not count."""
    times = []
    for number in range(repeats + 2):
        synchronize(DEVICE)
        start = time.perf_counter()
        run()
        synchronize(DEVICE)
        times += [1000 * (time.perf_counter() - start)] if number > 1 else []
    return statistics.median(times)


def half(on=True):
    return torch.autocast(DEVICE, torch.bfloat16, on)


# ---- pictures ----------------------------------------------------------------------------------


def random_context(model, entities):
    """A context of random vectors, as references would leave it."""
    generator = torch.Generator().manual_seed(entities)
    channels = model.backbone.output_shape()[model.encoder.feature].channels
    vectors = torch.randn(entities, 1, channels, generator=generator)
    shots = torch.ones(entities, 1, dtype=torch.bool)
    tensors = {"prototypes": vectors, "unit_prototypes": F.normalize(vectors, dim=-1)}
    ids = list(range(entities))
    return Context(PROTOTYPES, shots, tensors, None, ids, [None] * entities).to(model.device)


@torch.no_grad()
def pictures(toy):
    """One target from its pixels to its masks on the device, in fp32 and bf16; then a batch."""
    torch.manual_seed(0)
    cfg = settings(toy)
    model, side = build_model(cfg).eval(), cfg.INPUT.CANVAS
    entities, repeats = ((1, 2, 3), 1) if toy else (ENTITIES, REPEATS)
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
    contexts = {n: random_context(model, n) for n in entities}
    canvas = torch.randn(BATCH, 3, side, side, device=DEVICE)

    def segment(batch, context, precision):
        with half(precision == "bf16"):
            features = model.encode_images([image] * batch)
            results = model.segment(features, context)
        for result in results:
            result.masks  # noqa: B018  made when they are asked for

    def bare(batch, precision):
        with half(precision == "bf16"):
            model.backbone(canvas[:batch])

    for batch in (1, BATCH):
        for precision in ("bf16", "fp32"):
            backbone = milliseconds(lambda b=batch, p=precision: bare(b, p), repeats)
            say(f"{precision}, batch {batch}, bare backbone", ms_per_target=backbone / batch)
            for n in entities if batch == 1 else entities[1:2]:
                run = lambda b=batch, c=contexts[n], p=precision: segment(b, c, p)  # noqa: E731
                reset_peak_memory(DEVICE)
                whole = milliseconds(run, repeats)
                say(
                    f"{precision}, batch {batch}, {n} entities",
                    ms_per_target=whole / batch,
                    of_the_backbone=whole / backbone,
                    peak_gb=_gigabytes(),
                )


def _gigabytes():
    peak = peak_memory(DEVICE)
    return None if peak is None else peak / 1e9


# ---- training ----------------------------------------------------------------------------------


def training(toy):
    """Steps of the paper's L config, batch 4: the paper names 10 GB."""
    torch.manual_seed(0)
    model = build_model(settings(toy)).train()
    for precision in ("fp32", "bf16"):
        for masks in (1, 2) if toy else (1, 10):
            cfg = settings(toy, "SOLVER.AMP.ENABLED", precision == "bf16")
            train(
                model,
                cfg,
                f"{precision}, {cfg.SOLVER.IMS_PER_BATCH} targets of {masks} masks",
                masks,
            )
            model.zero_grad()


def train(model, cfg, name, masks):
    """Say what a step takes: time, and the most memory of several, the optimizer's included."""
    optimizer, episodes = EpisodeTrainer.build_optimizer(cfg, model), synthetic_episodes(cfg, masks)

    def step():
        optimizer.zero_grad()
        one_step(model, episodes, cfg)
        optimizer.step()

    reset_peak_memory(DEVICE)
    spent = milliseconds(step, 3)
    say(name, samples_per_s=1000 * cfg.SOLVER.IMS_PER_BATCH / spent, peak_gb=_gigabytes())


# ---- compiled ----------------------------------------------------------------------------------


@torch.no_grad()
def compiled(toy):
    """Where the time of a picture goes; then the backbone compiled, in bf16."""
    torch.manual_seed(0)
    cfg = settings(toy)
    model, side = build_model(cfg).eval(), cfg.INPUT.CANVAS
    image = torch.randint(0, 256, (3, side, side), dtype=torch.uint8)
    context = random_context(model, 2 if toy else 20)

    def run():
        with half():
            model.segment(model.encode_images([image]), context)

    for name, share, calls in top_ten(run):
        say(f"bf16, profile: {name}", share=share, calls=calls)
    canvas = torch.randn(1, 3, side, side, device=DEVICE)
    # as a toy without a compiler of C++, which a CPU may lack
    options = {"backend": "eager"} if toy else {}
    backbone = torch.compile(model.backbone, **options)
    with half():
        plain, repeats = model.backbone(canvas)["feat"], 1 if toy else REPEATS
        before = milliseconds(lambda: model.backbone(canvas), repeats)
        say("bf16, backbone as it is", ms=before)
        start = time.perf_counter()
        quick = backbone(canvas)["feat"]
        synchronize(DEVICE)
        waited = time.perf_counter() - start
        after = milliseconds(lambda: backbone(canvas), repeats)
    distance = ((quick - plain).float().norm() / plain.float().norm()).item()
    say("bf16, backbone compiled", ms=after, first_call_s=waited, distance=distance)


def top_ten(run):
    """[(operator or kernel, share of the device's time, calls)] of one run, the longest first."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if DEVICE != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    run()
    with torch.profiler.profile(activities=activities) as profiler:
        run()
        synchronize(DEVICE)
    spent = "self_cpu_time_total" if DEVICE == "cpu" else "self_device_time_total"
    events = profiler.key_averages()
    if DEVICE != "cpu":  # kernels; the operators that started them would count them twice
        events = [e for e in events if e.device_type != torch.autograd.DeviceType.CPU]
    whole = sum(getattr(event, spent) for event in events) or 1
    longest = sorted(events, key=lambda event: -getattr(event, spent))[:10]
    return [(event.key[:60], getattr(event, spent) / whole, event.count) for event in longest]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("pictures", "training", "compiled"))
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args(argv)
    {"pictures": pictures, "training": training, "compiled": compiled}[args.what](args.toy)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
