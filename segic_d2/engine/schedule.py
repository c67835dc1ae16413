"""The training schedule in samples, whatever batch size and number of GPUs. A sample is one target
with its references; a step takes ``SOLVER.IMS_PER_BATCH`` of them, in all processes together."""

import logging

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer

from ..config import IN_ITERATIONS, check_config

WARMUP = 0.25  # of a run, at most


def settle_schedule(cfg: CfgNode, world_size: int = 1) -> CfgNode:
    """Convert a schedule in samples into Detectron2's keys in iterations, rounded up, in a new
    config whose four ``SOLVER.*_SAMPLES`` are 0 or (). ``SOLVER.REFERENCE_WORLD_SIZE``, unless it
    is 0, first scales batch and learning rate to the number of processes; samples are divided by
    the batch that results, so that the run sees the same number either way. The warm-up takes at
    most a quarter of the run, which could else end before its learning rate is reached. Our
    trainers settle their own; Detectron2's DefaultTrainer needs it done. ValueError: a key, which
    is named, is out of its range or given both ways, or steps fall into the same iteration.
    """
    check_config(cfg, "SOLVER")
    defaults = get_cfg().SOLVER
    for key, iterations in IN_ITERATIONS.items():
        samples, given = cfg.SOLVER[key], cfg.SOLVER[iterations]
        if samples and given and given != defaults[iterations]:
            raise ValueError(
                f"SOLVER.{key} is {samples} and SOLVER.{iterations} is {given}: a schedule stands "
                f"in samples or in iterations; set SOLVER.{key} to {type(samples)()} for the latter"
            )
    scaled = DefaultTrainer.auto_scale_workers(_converted(cfg), world_size)
    # once more from the samples, for the scaled iterations are rounded ones
    for key in IN_ITERATIONS:
        scaled.SOLVER[key] = cfg.SOLVER[key]
    settled = _converted(scaled)
    for key in IN_ITERATIONS:
        settled.SOLVER[key] = type(settled.SOLVER[key])()
    s = settled.SOLVER
    if s.WARMUP_ITERS > (most := int(WARMUP * s.MAX_ITER)):
        logging.getLogger(__name__).info(
            f"SOLVER.WARMUP_ITERS {s.WARMUP_ITERS} is {most}, a quarter of MAX_ITER {s.MAX_ITER}"
        )
        s.WARMUP_ITERS = most
    if any(cfg.SOLVER[key] for key in IN_ITERATIONS):
        logging.getLogger(__name__).info(
            f"{s.IMS_PER_BATCH} samples per iteration: MAX_ITER {s.MAX_ITER}, STEPS {s.STEPS}, "
            f"WARMUP_ITERS {s.WARMUP_ITERS}, CHECKPOINT_PERIOD {s.CHECKPOINT_PERIOD}"
        )
    if cfg.is_frozen():
        settled.freeze()
    return settled


def _converted(cfg):
    """A thawed copy with samples written into the iteration keys."""
    cfg = cfg.clone()
    cfg.defrost()
    batch = cfg.SOLVER.IMS_PER_BATCH
    for key, iterations in IN_ITERATIONS.items():
        samples = cfg.SOLVER[key]
        if key == "STEPS_SAMPLES" and samples:
            cfg.SOLVER[iterations] = steps = tuple(-(-x // batch) for x in samples)
            if len(set(steps)) < len(steps):
                raise ValueError(
                    f"SOLVER.STEPS_SAMPLES {tuple(samples)} fall into the same iteration of "
                    f"SOLVER.IMS_PER_BATCH {batch} samples: {steps}"
                )
        elif samples:
            cfg.SOLVER[iterations] = -(-samples // batch)
    return cfg
