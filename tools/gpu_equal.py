"""Whether a device finds what the CPU finds: predictor, training step, evaluation.

    python tools/gpu_equal.py [--toy]      on SEGIC_D2_TEST_DEVICE, default "cuda"

All weights are random and seeded, as are pictures and masks. The reference is the CPU in float32;
the distance of what a device gives, ‖a − b‖ / ‖b‖ of every tensor, is at most ``TOLERANCES``. TF32
is off, and random points are drawn on the CPU, for a GPU's generator draws others.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from itertools import repeat
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from segic_d2.config.load import load_config
from segic_d2.engine import EpisodeTrainer, evaluate
from segic_d2.engine.precision import build_trainer
from segic_d2.predictor import InContextPredictor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import hardware  # noqa: E402
from step_memory import synthetic_episodes  # noqa: E402

DEVICE = os.environ.get("SEGIC_D2_TEST_DEVICE", "cuda")
KEY = "MODEL.SEGIC."
STRATEGIES = (
    *(f"{KEY}REVERSION.PROB", 1.0, f"{KEY}REVERSION.CONTEXT", "join", f"{KEY}MIXSTYLE", 0.1),
    *(f"{KEY}CROSS_ENTITY.TRAIN_PROB", 0.5, f"{KEY}BOX_PROMPT_PROB", 0.5),
    *(f"{KEY}LOSS.QUALITY_WEIGHT", 1.0, f"{KEY}DECODER.CHECKPOINT", True),
    *(f"{KEY}BACKGROUND", True, f"{KEY}SIMILARITY.GROUPS", 2, f"{KEY}SIMILARITY.RELATIVE", True),
    *(f"{KEY}SIMILARITY.CENTER", "fixed"),
)
TOLERANCES = {  # per precision; of masks and mIoU: share of other pixels, difference in points
    "scores": {"fp32": 1e-4, "bf16": 0.01, "fp16": 0.005},
    "propagated": {"fp32": 1e-4, "bf16": 0.01, "fp16": 0.005},
    "masks": {"fp32": 1e-3, "bf16": 0.02, "fp16": 0.01},
    "losses": {"fp32": 1e-4, "bf16": 0.005, "fp16": 0.002},
    "gradients": {"fp32": 1e-2, "bf16": 0.1, "fp16": 0.05},
    "mIoU": {"fp32": 0.2},
}


def settings(toy):
    """ViT-S at canvas 448, or at 112 as a toy, with random weights and without text."""
    opts = ("MODEL.BACKBONE.WEIGHTS", "", f"{KEY}META", False, "MODEL.DEVICE", "cpu")
    opts += ("INPUT.CANVAS", 112 if toy else 448, "SOLVER.IMS_PER_BATCH", 2, *STRATEGIES)
    if toy:
        opts += (f"{KEY}DECODER.WIDTH", 64, f"{KEY}DECODER.MLP", 128, "MODEL.TIMM.BLOCKS", (0, 1))
    return load_config("segic_dinov2_S.yaml", opts)


# ---- what is found on one device ---------------------------------------------------------------


def with_opts(cfg, *opts):
    cfg = cfg.clone()
    cfg.defrost()
    cfg.merge_from_list(list(opts))
    return cfg


def predicted(cfg, device, precision):
    """Of two pictures: masks, scores, propagated masks."""
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (4, 120, 160, 3), dtype=np.uint8)
    masks = np.zeros((2, 120, 160), dtype=bool)
    masks[0, 20:70, 30:90] = masks[1, 60:110, 80:150] = True
    torch.manual_seed(0)
    predictor = InContextPredictor(cfg, device=device, precision=precision)
    predictor.set_references(list(zip(pictures[:2], masks, ("a", "b"), strict=True)))
    # each by itself: where entities compete, a little difference may decide who wins a pixel
    found = list(predictor.predict(pictures[2:], with_propagated_mask=True, independent=True))
    return {
        "masks": torch.from_numpy(np.stack([x.masks for x in found])),
        "scores": torch.from_numpy(np.stack([x.scores for x in found])),
        "propagated": torch.from_numpy(np.stack([x.propagated for x in found])),
    }


def trained(cfg, device, precision):
    """Of a step with every strategy, on semantic and instance episodes: losses and gradients."""
    half = precision != "fp32"
    cfg = with_opts(cfg, "MODEL.DEVICE", device, "SOLVER.AMP.ENABLED", half)
    if half:
        cfg.SOLVER.AMP.DTYPE = precision
    torch.manual_seed(0)
    model = build_model(cfg).train()
    episodes = synthetic_episodes(cfg, 3)
    for episode, other, task in zip(
        episodes, episodes[::-1], ("semantic", "instance"), strict=True
    ):
        episode["task"] = task
        episode["references"] = episode["references"] + other["references"]
    # the rate is 0, so that the weights stay; gradients are what is looked at
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
    trainer = build_trainer(cfg, model, repeat(episodes), optimizer)
    with EventStorage() as storage, points_of_the_cpu():
        for _ in range(16):  # fp16's scale begins so high that gradients overflow, and falls
            trainer.run_step()
            grads = [p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None]
            if torch.cat(grads).isfinite().all():
                break
    losses = [v for k, (v, _) in storage.latest().items() if k.startswith("loss")]
    return {"losses": torch.tensor(losses), "gradients": torch.cat(grads)}


def evaluated(cfg, device, precision):
    """mIoU, in percent, of one-shot episodes of the embedded data."""
    with tempfile.TemporaryDirectory() as folder:
        opts = ("OUTPUT_DIR", folder, "MODEL.DEVICE", device, "DATALOADER.NUM_WORKERS", 0)
        cfg = with_opts(cfg, *opts, "TEST.EPISODES", 8)
        torch.manual_seed(0)
        model = EpisodeTrainer.build_model(cfg).eval()
        with contextlib.redirect_stdout(sys.stderr):
            results = evaluate(cfg, model, "shapes_novel_coco")
    return {"mIoU": torch.tensor(results["one_shot"]["mIoU"])}


@contextlib.contextmanager
def points_of_the_cpu():
    """Inside, ``torch.rand`` draws on the CPU, whatever device it is asked for."""
    rand = torch.rand

    def drawn(*size, device=None, **options):
        return rand(*size, **options).to(device or "cpu")

    with mock.patch("torch.rand", drawn):
        yield


# ---- compared ----------------------------------------------------------------------------------

CASES = {"predictor": predicted, "training": trained, "evaluation": evaluated}


def precisions(case, device):
    """In which a case runs on a device; fp16 needs another than the CPU."""
    if case == "evaluation":  # always in full precision
        return ["fp32"]
    return ["fp32", "bf16", *(["fp16"] if device != "cpu" else [])]


def distances(found, expected):
    """{name: distance} of tensors from those expected; see the head of this file."""
    result = {}
    for name, own in found.items():
        truth = expected[name]
        if name == "masks":
            result[name] = (own != truth).float().mean().item()
        elif name == "mIoU":
            result[name] = (own - truth).abs().item()
        else:
            own, truth = own.double(), truth.double()
            result[name] = ((own - truth).norm() / truth.norm()).item()
    return result


def compare(cfg, case, device):
    """Yield for each precision {"name", distances and what they may be, "fails": […] if any do}."""
    with exact():
        expected = CASES[case](cfg, "cpu", "fp32")
        for precision in precisions(case, device):
            found = distances(CASES[case](cfg, device, precision), expected)
            result, fails = {"name": f"{case} {precision}"}, []
            for name, distance in found.items():
                tolerance = TOLERANCES[name][precision]
                result |= {name: distance, f"{name} at most": tolerance}
                fails += [] if distance <= tolerance else [name]
            yield result | ({"fails": fails} if fails else {})


@contextlib.contextmanager
def exact():
    """Inside, no TF32: it keeps 10 bits of float32's 23, in convolutions by default."""
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    try:
        for flag in flags:
            flag.allow_tf32 = False
        yield
    finally:
        for flag, value in zip(flags, before, strict=True):
            flag.allow_tf32 = value


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--toy", action="store_true")
    args = parser.parse_args(argv)
    print(f"RESULT {json.dumps({'name': hardware(DEVICE)})}", flush=True)
    cfg = settings(args.toy)
    for case in CASES:
        for result in compare(cfg, case, DEVICE):
            print(f"RESULT {json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
