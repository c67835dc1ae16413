"""Train by a lazy config, as Detectron2's tools/lazyconfig_train_net.py does:

python examples/lazy_train.py [train.max_iter=300 model.sem_seg_head.num_points=2 …]
"""

import sys

import numpy as np
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import SimpleTrainer, default_writers, hooks
from detectron2.evaluation import inference_on_dataset
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from segic_d2 import InContextMaskHead, lazy


def recipe():
    """The demo's decoder alone, on the embedded data: random, small canvas, 60 steps of 4."""
    cfg = lazy.demo()
    head = cfg.model.sem_seg_head
    head._target_, head.similarity.feature_mean = InContextMaskHead, None
    del head.matcher  # what chooses regions
    cfg.model.encoder.update(canvas=112, zoom=0.0, whole=False, multiple=0, memory=200)
    cfg.dataloader.train.update(datasets=["shapes_train_coco"], mappers=["semantic"], weights=[])
    cfg.dataloader.train.total_batch_size, cfg.dataloader.test.episodes = 4, 40
    cfg.train.update(init_checkpoint="", max_iter=60, device="cpu")
    return cfg


def train(cfg):
    model = instantiate(cfg.model).to(cfg.train.device).train()
    cfg.optimizer.params.model = model
    optimizer, loader = instantiate(cfg.optimizer), instantiate(cfg.dataloader.train)
    trainer = SimpleTrainer(model, loader, optimizer)
    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter)
    rates = hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier))
    trainer.register_hooks([hooks.IterationTimer(), rates, hooks.PeriodicWriter(writers)])
    trainer.train(0, cfg.train.max_iter)
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    data, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    return losses, inference_on_dataset(model, data, evaluator)["one_shot"]["mIoU"]


if __name__ == "__main__":
    setup_logger()
    seed_all_rng(0)
    losses, miou = train(LazyConfig.apply_overrides(recipe(), sys.argv[1:]))
    print(f"loss {np.mean(losses[:10]):.3f} -> {np.mean(losses[-10:]):.3f}, mIoU {miou:.1f}")
