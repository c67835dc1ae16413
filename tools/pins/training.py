"""Losses of short trainings, and the checkpoints that they leave."""

import json
from pathlib import Path

import numpy as np
import torch

from . import layout, running
from .recording import Recording

ITERATIONS = 20
BASE, PAPER = "configs/Base-SegIC.yaml", "configs/segic_dinov2_L.yaml"
SHORT = {"DATASETS.TEST": "()", "SOLVER.STEPS": "()", "SOLVER.BASE_LR": 0.001}
# whatever training of instances can do
INSTANCE = {
    "DATASETS.TRAIN": ("shapes_train_coco",),
    "DATASETS.EPISODE_MAPPERS": ("instance",),
    "SOLVER.IMS_PER_BATCH": 4,
    "MODEL.SEGIC.REVERSION.PROB": 0.7,
    "MODEL.SEGIC.BOX_PROMPT_PROB": 0.5,
    "MODEL.SEGIC.CROSS_ENTITY.TRAIN_PROB": 0.5,
    "MODEL.SEGIC.POINTS.NUM": 2,
}
# four data sets as in the paper, from the miniatures; text, several shots, checkpointed decoder
PAPER_MIX = {
    "DATASETS.TRAIN": (
        *("coco_2017_train", "ade20k_sem_seg_train"),
        *("coco_2017_train", "lvis_v1_train"),
    ),
    "DATASETS.SINGLE_IMAGE_CLASSES": "skip",
    "SOLVER.IMS_PER_BATCH": 8,
    "MODEL.SEGIC.META": True,
    "INPUT.SEMANTIC.MAX_ENTITIES": 2,
    "INPUT.SEMANTIC.MAX_SHOTS": 2,
    "INPUT.ABSENT_PROB": 0.1,
    "MODEL.SEGIC.REVERSION.CONTEXT": "join",
}
CASES = {"instance": (BASE, INSTANCE), "paper_mix": (PAPER, PAPER_MIX)}
# as it is, with its own random weights: make demo trains it
SHAPES = "configs/segic_shapes_S.yaml"
WARM = {"SOLVER.WARMUP_ITERS": 5}  # in so few iterations it would not learn


def record(processes: int, folder: Path, into: Recording, cheap: bool = False) -> None:
    """The trainings in so many processes; the miniatures stand in $DETECTRON2_DATASETS."""
    jobs = {}
    cases = {"paper_mix": CASES["paper_mix"]} if cheap else CASES
    for name, (config, options) in cases.items():
        jobs[name] = config, running.complete(config, {**SHORT, **options}, folder)
    if not cheap:
        jobs["shapes"] = SHAPES, {**WARM, "MODEL.DEVICE": "cpu", "DATASETS.TEST": "()"}
    iterations = 4 if cheap else ITERATIONS
    started = []
    for name, (config, options) in jobs.items():
        output = folder / f"{name}_{processes}"
        more = {"SOLVER.MAX_ITER": iterations, "OUTPUT_DIR": str(output)}
        started.append((config, {**options, **more}, str(folder / f"{name}_{processes}.json")))
    running.train_in(processes, started)
    for name, (_, options, target) in zip(jobs, started, strict=True):
        losses = {k: np.array(v) for k, v in json.loads(Path(target).read_text()).items()}
        part = f"training/{name}_{processes}_process{'es' if processes > 1 else ''}"
        into.add(part, *checkpoint(Path(options["OUTPUT_DIR"]) / "model_final.pth"))
        into.add(part, {}, losses)


def checkpoint(path: Path) -> tuple[dict, dict]:
    """Names and shapes of what is saved, and two figures of each tensor."""
    saved = torch.load(path, map_location="cpu", weights_only=True)["model"]
    saved = {layout.renamed(k, layout.TENSORS): v for k, v in saved.items()}
    names = sorted(saved)
    forms = {f"saved {k}": f"{saved[k].dtype} {tuple(saved[k].shape)}" for k in names}
    tensors = [saved[k].double() for k in names]
    means = np.array([[t.mean().item(), t.abs().mean().item()] for t in tensors])
    return forms, {"weights": means}
