"""Evaluations of semantic segmentation on miniatures of its datasets, with a tiny model."""

import json
from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils import comm

from segic_d2.data.datasets.open_vocabulary import register_all_open_vocabulary
from segic_d2.engine import evaluate
from tests.tiny import tiny_config

ROOT = Path(__file__).resolve().parents[3]
NAMES = [f"{n}_sem_seg_{s}" for n in ("a847", "pc459", "coco") for s in ("train", "val")]


def register_below(root):
    for name in NAMES:
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
    register_all_open_vocabulary(str(root))


def settings(tmp_path, name, *opts, reference=None):
    """A tiny config of one dataset."""
    reference = reference or f"{name}_sem_seg_train"
    return tiny_config(
        *("OUTPUT_DIR", str(tmp_path), "DATALOADER.NUM_WORKERS", 0, "TEST.SEEN", "seen"),
        *("DATASETS.TEST", (f"{name}_sem_seg_val",), "DATASETS.REFERENCE", (reference,)),
        *("TEST.EVALUATORS", ("semantic",), "TEST.BATCH_SIZE", 3, *opts),
        canvas=56,
    )


def built(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def run(cfg, model=None):
    """{mode: figures} and results.json of the config's dataset."""
    (name,) = cfg.DATASETS.TEST
    found = evaluate(cfg, model or built(cfg), name)
    if not comm.is_main_process():
        return None
    modes = {task.split("-")[2]: figures for task, figures in found.items()}
    file = Path(cfg.OUTPUT_DIR) / "inference" / name / "semantic" / "results.json"
    return modes, json.loads(file.read_text()), list(found)


def calls(model):
    """A list that collects how many images each call of the backbone gets."""
    sizes = []
    model.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    return sizes
