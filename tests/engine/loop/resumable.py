"""Evaluations of tiny datasets by models that predict from the ground truth, at no cost."""

import hashlib

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from torch import nn

from segic_d2.data import build_one_shot_loader, build_target_loader
from segic_d2.engine.loop.inference import run_inference
from segic_d2.evaluation import (
    BestThresholdEvaluator,
    OneShotEvaluator,
    build_coco_evaluator,
    build_sem_seg_evaluator,
)
from tests.tiny import tiny_config


class Predictor(nn.Module):
    """Outputs that follow from the input's file and episode; counts what it is asked.

    Args:
        classes: of ``sem_seg`` outputs.
        fail_at: number of the batch at which it fails, or None.
        before: called before each batch.
    """

    def __init__(self, classes=4, fail_at=None, before=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.classes, self.fail_at, self.before, self.seen, self.batches = (
            classes,
            fail_at,
            before,
            [],
            0,
        )

    def forward(self, inputs):
        assert not torch.is_grad_enabled() and not self.training
        if self.before:
            self.before()
        if self.batches == self.fail_at:
            raise RuntimeError("interrupted")
        self.batches += 1
        self.seen += [(x["file_name"], x.get("episode")) for x in inputs]
        return [self.output(x) for x in inputs]

    def output(self, x):
        key = f"{x['file_name'].split('/')[-1]} {x.get('episode')}"
        seed = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16)
        rng = np.random.default_rng(seed)
        h, w = x["height"], x["width"]
        masks = torch.from_numpy(rng.random((2, h, w)) > 0.5)
        instances = Instances((h, w))
        instances.pred_masks, instances.pred_classes = masks, torch.tensor([seed % 3, 1])
        instances.scores = torch.from_numpy(rng.random(2)).float()
        instances.pred_boxes = Boxes(torch.tensor([[1.0, 2, 9, 10]]).repeat(2, 1))
        soft = torch.from_numpy(rng.random((1, h, w))).float()
        sem_seg = torch.from_numpy(rng.random((self.classes, h, w))).float()
        return {
            "masks": masks[:1],
            "propagated_mask": soft,
            "sem_seg": sem_seg,
            "instances": instances,
        }


KINDS = ("one_shot", "threshold", "sem_seg", "coco")


def evaluation(kind, root, output, *opts):
    """(config, loader, evaluator) of a kind over the dataset that ``make`` wrote; 7 items."""
    cfg = tiny_config(
        *("TEST.EPISODES", 7, "TEST.BATCH_SIZE", 2, "DATALOADER.NUM_WORKERS", 0),
        *("TEST.SAVE_PERIOD", 1000.0, *opts),
    )
    if kind in ("one_shot", "threshold"):
        name = f"folder:{root}/a"
        cls = OneShotEvaluator if kind == "one_shot" else BestThresholdEvaluator
        return cfg, build_one_shot_loader(cfg, name), cls(name)
    if kind == "sem_seg":
        name = f"folder:{root}/b"
        return cfg, build_target_loader(cfg, name), build_sem_seg_evaluator(name, str(output))
    name = f"coco:{root}/coco.json:{root}/images"
    return cfg, build_target_loader(cfg, name), build_coco_evaluator(name, str(output))


def run(kind, root, output, *opts, **model):
    """Results and the model, which knows what it was asked."""
    cfg, loader, evaluator = evaluation(kind, root, output, *opts)
    predictor = Predictor(**model)
    return run_inference(cfg, predictor, loader, evaluator, str(output)), predictor
