"""SEM_SEG_HEADS "RegionMatchingHead": regions of the target by reference cells, without training.

The decoder of ``InContextMaskHead`` stands beside it under the names that its checkpoints know; its
probability is one cue where ``MODEL.SEGIC.REGIONS.DECODER`` gives it a weight, and without one it
is neither asked nor needs weights.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

from ..mask_head import InContextMaskHead
from .matcher import RegionMatcher


@SEM_SEG_HEADS_REGISTRY.register()
class RegionMatchingHead(InContextMaskHead):
    """Chooses regions of targets, see ``RegionMatcher``; ``decoder`` are the arguments of
    ``InContextMaskHead``. ValueError: the released rules, which know no regions."""

    matcher: RegionMatcher

    @configurable
    def __init__(self, *, matcher: RegionMatcher, **decoder: Any) -> None:
        super().__init__(**decoder)
        self.matcher = matcher

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments of a config; errors of the parts'."""
        if cfg.MODEL.SEGIC.RELEASED:
            raise ValueError("MODEL.SEGIC.RELEASED is True, which knows no RegionMatchingHead")
        found = super().from_config(cfg, input_shape)
        matcher = RegionMatcher.from_config(cfg, found["similarity"], found["channels"])
        return {**found, "matcher": matcher}

    @property
    def decodes(self) -> bool:
        """Whether the decoder is asked for masks, which are a cue."""
        return self.matcher.options.decoder > 0
