"""What a run needs and this machine does not have, all of it, before anything is started."""

import os
from functools import partial

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from ..checkpoint.pretrained import PRETRAINED
from ..data import check_data


def find_missing(cfg: CfgNode, *, training: bool = True, resume: bool = False) -> list[str]:
    """One line for each thing that a run of a config cannot have, with the key to set: weights,
    texts, data. Without network it takes a few seconds; a file of weights is downloaded here, once.

    A model names what it needs by ``checks``, functions of the config that raise. ``training``:
    ``DATASETS.TRAIN`` is read too. ``resume``: ``MODEL.WEIGHTS`` is not read.
    """
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    checks = [*getattr(model, "checks", ()), partial(check_data, training=training)]
    if not resume:
        checks.insert(0, check_weights)
    problems = []
    for check in checks:
        try:
            check(cfg)
        except (OSError, ValueError, ImportError) as error:
            problems.append(str(error))
    return problems


def check_weights(cfg: CfgNode) -> None:
    """Look for the file of ``MODEL.WEIGHTS``; FileNotFoundError where it is none."""
    path = cfg.MODEL.WEIGHTS
    if path and path not in PRETRAINED and "://" not in path and not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint not found (MODEL.WEIGHTS): {path}")
