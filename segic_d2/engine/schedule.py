"""The training schedule in samples, which does not depend on batch size or number of GPUs.

A sample is one target with its references. In a step all processes together take
``SOLVER.IMS_PER_BATCH`` samples. Detectron2 counts in steps.
"""

import logging

from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer

from ..config import IN_ITERATIONS


def settle_schedule(cfg, world_size):
    """Convert a schedule in samples into Detectron2's keys in iterations.

    Detectron2's ``SOLVER.REFERENCE_WORLD_SIZE``, unless it is 0, first scales the batch and the
    learning rate to the number of processes. Samples are then divided by the batch that results,
    once. So the run sees the same number of samples either way. Numbers of iterations are rounded
    up.

    Args:
        cfg: config, left as it is.
        world_size: processes.

    Returns:
        a new config, whose four ``SOLVER.*_SAMPLES`` are 0 or ().

    Raises:
        ValueError: a key, which is named, is negative or is given in samples and in iterations too;
            or steps do not ascend or fall into the same iteration.
    """
    _check(cfg.SOLVER)
    scaled = DefaultTrainer.auto_scale_workers(_converted(cfg), world_size)
    # once more from the samples, for the scaled iterations are rounded ones
    for key in IN_ITERATIONS:
        scaled.SOLVER[key] = cfg.SOLVER[key]
    settled = _converted(scaled)
    for key in IN_ITERATIONS:
        settled.SOLVER[key] = type(settled.SOLVER[key])()
    if any(cfg.SOLVER[key] for key in IN_ITERATIONS):
        s = settled.SOLVER
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
        if not samples:
            continue
        if key == "STEPS_SAMPLES":
            cfg.SOLVER[iterations] = steps = tuple(-(-x // batch) for x in samples)
            if len(set(steps)) < len(steps):
                raise ValueError(
                    f"SOLVER.STEPS_SAMPLES {tuple(samples)} fall into the same iteration of "
                    f"SOLVER.IMS_PER_BATCH {batch} samples: {steps}"
                )
        else:
            cfg.SOLVER[iterations] = -(-samples // batch)
    return cfg


def _check(solver):
    defaults = get_cfg().SOLVER
    for key, iterations in IN_ITERATIONS.items():
        samples, given = solver[key], solver[iterations]
        each = list(samples) if key == "STEPS_SAMPLES" else [samples]
        whole = all(isinstance(x, int) and not isinstance(x, bool) and x >= 0 for x in each)
        if not whole or (key == "STEPS_SAMPLES" and each != sorted({0, *each})[1:]):
            kind = "ascending numbers > 0" if key == "STEPS_SAMPLES" else "a whole number ≥ 0"
            raise ValueError(f"SOLVER.{key} is {samples!r}; it must be {kind}")
        if samples and given and given != defaults[iterations]:
            raise ValueError(
                f"SOLVER.{key} is {samples} and SOLVER.{iterations} is {given}: a schedule stands "
                f"in samples or in iterations; set SOLVER.{key} to {type(samples)()} for the latter"
            )
