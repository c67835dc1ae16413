"""Pixel statistics under meta-architectures that take them from the config.

Our models ask the backbone itself. Detectron2's normalise by MODEL.PIXEL_MEAN and MODEL.PIXEL_STD,
in the order of INPUT.FORMAT.
"""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, Backbone

from ..protocol import InContextModel
from .diffusion_backbone import DiffusionBackbone
from .sources import RANDOM
from .timm_backbone import timm_statistics

logger = logging.getLogger(__name__)

Statistics = tuple[Sequence[float], Sequence[float]]


def _timm(cfg: CfgNode) -> Statistics:
    return timm_statistics(cfg.MODEL.TIMM.NAME)


def _diffusion(cfg: CfgNode) -> Statistics:
    return DiffusionBackbone.pixel_mean, DiffusionBackbone.pixel_std


KNOWN: dict[str, Callable[[CfgNode], Statistics]] = {  # MODEL.BACKBONE.NAME → its mean and std
    "build_timm_backbone": _timm,
    "build_timm_fpn_backbone": _timm,
    "build_retinanet_timm_fpn_backbone": _timm,
    "build_diffusion_backbone": _diffusion,
}


def set_pixel_statistics(cfg: CfgNode) -> None:
    """Set MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT of a config to what its backbone was
    trained with, in place; no backbone is built.

    Raises:
        ValueError: a backbone that is not ours, or an unknown MODEL.TIMM.NAME.
    """
    name = cfg.MODEL.BACKBONE.NAME
    if name not in KNOWN:
        raise ValueError(
            f"MODEL.BACKBONE.NAME {name!r} says nothing of pixel statistics; set MODEL.PIXEL_MEAN, "
            f"MODEL.PIXEL_STD and INPUT.FORMAT by hand (known: {', '.join(KNOWN)})"
        )
    mean, std = KNOWN[name](cfg)
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = _rounded(mean), _rounded(std)
    cfg.INPUT.FORMAT = "RGB"


def warn_of_statistics(cfg: CfgNode, backbone: Backbone) -> None:
    """Log the lines to set where a foreign meta-architecture would normalise pixels by other
    statistics than those of the backbone (``pixel_mean``, ``pixel_std``, RGB). A backbone that is
    meant to be random was trained with none."""
    if cfg.MODEL.BACKBONE.WEIGHTS == RANDOM:
        return
    name, models = cfg.MODEL.META_ARCHITECTURE, META_ARCH_REGISTRY
    kind: Any = models.get(name) if name in models else None
    if isinstance(kind, type) and issubclass(kind, InContextModel):
        return  # it asks the backbone
    mean, std = _rounded(backbone.pixel_mean), _rounded(backbone.pixel_std)
    given = [*cfg.MODEL.PIXEL_MEAN, *cfg.MODEL.PIXEL_STD]
    same = len(given) == 6 and all(
        math.isclose(a, b, abs_tol=0.01) for a, b in zip(given, mean + std, strict=True)
    )
    if not same or cfg.INPUT.FORMAT != "RGB":
        logger.warning(
            f"the backbone was trained with other pixel statistics than {name} is given; set "
            f"MODEL.PIXEL_MEAN {mean}, MODEL.PIXEL_STD {std}, INPUT.FORMAT RGB, or call "
            "segic_d2.set_pixel_statistics(cfg)"
        )


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
