"""Runs of a few iterations in this process: the embedded data, a tiny backbone, no workers."""

import shutil

import torch
from detectron2.engine import HookBase

from segic_d2.engine import EpisodeTrainer
from tests.tiny import tiny_config


def short_config(output, *opts):
    return tiny_config(
        *("OUTPUT_DIR", str(output), "DATASETS.TRAIN", ("shapes_train_coco",)),
        *("DATASETS.TEST", (), "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2),
        *("SOLVER.BASE_LR", 0.001, "SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS", ()),
        *opts,
    )


class Record(HookBase):
    """Losses and learning rate of every iteration."""

    def __init__(self):
        self.values = {}

    def after_step(self):
        latest = self.trainer.storage.latest()
        rate = self.trainer._trainer.optimizer.param_groups[0]["lr"]
        self.values[self.trainer.iter] = latest["loss_mask"][0], latest["loss_dice"][0], rate


def train(output, *opts, resume=False):
    """Train; returns the trainer and {iteration: (BCE, Dice, rate)}."""
    cfg = short_config(output, *opts)
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(cfg.SEED)
    trainer = EpisodeTrainer(cfg)
    trainer.resume_or_load(resume)
    record = Record()
    trainer.register_hooks([record])
    # before the hook that moves the learning rate on
    trainer._hooks.insert(0, trainer._hooks.pop())
    trainer.train()
    return trainer, record.values


def as_if_killed_after(iteration, whole, output):
    """A folder that holds what a killed run leaves: its last checkpoint."""
    output.mkdir()
    name = f"model_{iteration:07d}.pth"
    shutil.copy(whole / name, output / name)
    (output / "last_checkpoint").write_text(name)
    return output
