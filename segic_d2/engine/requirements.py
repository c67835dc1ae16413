"""What a run needs and this machine does not have, all of it, before anything is started."""

from functools import partial

from detectron2.config import CfgNode
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY

from ..checkpoint.checkpointer import find_checkpoint
from ..data import check_data
from ..utils.registries import find_registered


def find_missing(cfg: CfgNode, *, training: bool = True, resume: bool = False) -> list[str]:
    """One line for each thing that a run of a config cannot have, with the key to set: weights,
    texts, data, a misspelt name. Without network it takes a few seconds; a file of weights is
    downloaded here, once.

    A model names what it needs by ``checks``, functions of the config that raise. ``training``:
    ``DATASETS.TRAIN`` is read too. ``resume``: ``MODEL.WEIGHTS`` is not read.
    """
    checks = [_check_backbone, partial(check_data, training=training)]
    try:
        name = cfg.MODEL.META_ARCHITECTURE
        model = find_registered(META_ARCH_REGISTRY, name, "MODEL.META_ARCHITECTURE")
        checks = [*getattr(model, "checks", ()), *checks]
        problems = []
    except ValueError as error:
        problems = [str(error)]
    if not resume:
        checks.insert(0, check_weights)
    for check in checks:
        try:
            check(cfg)
        except (OSError, ValueError, ImportError) as error:
            problems.append(str(error))
    return problems


def check_weights(cfg: CfgNode) -> None:
    """Look for the file of ``MODEL.WEIGHTS``, see ``find_checkpoint``."""
    find_checkpoint(cfg.MODEL.WEIGHTS)


def _check_backbone(cfg: CfgNode) -> None:
    find_registered(BACKBONE_REGISTRY, cfg.MODEL.BACKBONE.NAME, "MODEL.BACKBONE.NAME")
