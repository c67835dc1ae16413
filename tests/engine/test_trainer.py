"""The trainers with other models than SegIC: one that knows nothing of episodes, and a toy."""

import itertools
import json

import pytest
import torch
from detectron2.config import get_cfg
from torch import nn

from segic_d2 import add_segic_config
from segic_d2.engine import EpisodeTrainer, Trainer
from tests.engine.short_runs import short_config
from tests.toy_model import MeanColour


class Line(nn.Module):
    """y = w·x through a frozen backbone that triples."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.backbone = nn.Linear(1, 1, bias=False).requires_grad_(False)
        self.backbone.weight.fill_(3)
        self.backbone.frozen = True  # no part of checkpoints
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, batch):
        return {"loss": sum((self.head(self.backbone(x)) - y).square() for x, y in batch).sum()}


class LineTrainer(Trainer):
    @classmethod
    def build_model(cls, cfg):
        return Line()

    @classmethod
    def build_train_loader(cls, cfg):
        return itertools.repeat([(torch.ones(1), torch.tensor([6.0]))])


def config(folder, steps, average):
    cfg = get_cfg()
    add_segic_config(cfg)
    options = {
        "OUTPUT_DIR": str(folder),
        "MODEL.DEVICE": "cpu",
        "DATASETS.TEST": (),
        "SOLVER.OPTIMIZER": "ADAMW",
        "SOLVER.BASE_LR": 0.1,
        "SOLVER.WARMUP_ITERS": 0,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_SAMPLES": 2 * steps,
        "SOLVER.STEPS": (),
        "MODEL_EMA.ENABLED": average,
    }
    cfg.merge_from_list([x for item in options.items() for x in item])
    return cfg


def train(folder, steps, average=False):
    trainer = LineTrainer(config(folder, steps, average))
    trainer.resume_or_load(resume=True)
    trainer.train()
    return trainer


def test_any_model_trains(tmp_path):
    trainer = train(tmp_path, 40, average=True)
    assert trainer.max_iter == 40 and trainer.model.head.weight.item() == pytest.approx(2, abs=0.7)
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert list(saved["model"]) == ["head.weight"]
    assert saved["trainer"]["run"]["SOLVER.IMS_PER_BATCH"] == 2
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert json.loads(lines[-1])["samples_per_second"] > 0


def test_and_goes_on(tmp_path):
    train(tmp_path / "parts", 10)
    parts, whole = train(tmp_path / "parts", 20), train(tmp_path / "whole", 20)
    assert (parts.start_iter, whole.start_iter) == (10, 0)
    assert torch.equal(parts.model.head.weight, whole.model.head.weight)


class Distance(MeanColour):
    """The toy model, trained: how far a colour may be."""

    def __init__(self):
        super().__init__()
        self.near = nn.Parameter(torch.tensor(1.0))

    def losses(self, batched_inputs):
        contexts = self.episode_contexts(batched_inputs)
        found = self.segment(self.encode_images(batched_inputs), contexts)
        return {"loss": sum((one.logits / 100 - 1).square().mean() for one in found)}


class DistanceTrainer(EpisodeTrainer):
    @classmethod
    def build_model(cls, cfg):
        return Distance()


def test_episodes_train_any_model_that_has_losses(tmp_path):
    cfg = short_config(tmp_path, "SOLVER.MAX_ITER", 3, "SOLVER.MAX_SAMPLES", 0)
    trainer = DistanceTrainer(cfg)
    trainer.train()
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert list(saved["model"]) == ["near"] and saved["model"]["near"] > 1


def test_an_unknown_evaluation_is_named_before_training(tmp_path):
    cfg = short_config(tmp_path, "TEST.EVALUATORS", ("sem_seg",))
    with pytest.raises(ValueError, match="TEST.EVALUATORS has 'sem_seg', .*'semantic' takes its"):
        EpisodeTrainer(cfg)
