"""SEM_SEG_HEADS "RegionMatchingHead": regions of the target by reference cells, without training.

The decoder of ``InContextMaskHead`` stands beside it under the names that its checkpoints know; its
probability is one cue where ``MODEL.SEGIC.REGIONS.DECODER`` gives it a weight; without one it is
neither asked nor needs weights, and at 1 its masks are the answer, and no region is chosen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor

from ..mask_head import InContextMaskHead
from .matcher import RegionMatcher


@SEM_SEG_HEADS_REGISTRY.register()
class RegionMatchingHead(InContextMaskHead):
    """Chooses regions of targets, see ``RegionMatcher``; ``decoder`` are the arguments of
    ``InContextMaskHead``. ValueError: the released rules, which know no regions."""

    matcher: RegionMatcher
    share_of_decoder: Tensor | None

    @configurable
    def __init__(self, *, matcher: RegionMatcher, **decoder: Any) -> None:
        super().__init__(**decoder)
        self.matcher, self._configured = matcher, matcher.options.decoder
        self.register_buffer("share_of_decoder", None)  # where it was tuned

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments of a config; errors of the parts'."""
        if cfg.MODEL.SEGIC.RELEASED:
            raise ValueError("MODEL.SEGIC.RELEASED is True, which knows no RegionMatchingHead")
        found = super().from_config(cfg, input_shape)
        matcher = RegionMatcher.from_config(cfg, found["similarity"], found["channels"])
        return {**found, "matcher": matcher}

    @property
    def tuned(self) -> bool:
        return self.share_of_decoder is not None

    @property
    def share(self) -> float:
        """The decoder's weight among the cues."""
        return self.matcher.options.decoder

    def set_share(self, share: float) -> None:
        """Give the decoder another weight than ``MODEL.SEGIC.REGIONS.DECODER``, which goes with the
        weights into checkpoints, and before the config's where they are loaded."""
        device = self.mask_decoder.iou_token.weight.device
        self.share_of_decoder = torch.tensor(share, device=device)
        self.matcher.options = replace(self.matcher.options, decoder=share)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        found = state_dict.get(f"{prefix}share_of_decoder")
        self.set_share(self._configured if found is None else round(float(found), 4))
        if found is None:  # nobody tuned it
            self.share_of_decoder = None
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def decodes(self) -> bool:
        """Whether the decoder is asked for masks, which are a cue."""
        return self.matcher.options.decoder > 0

    @property
    def chooses(self) -> bool:
        return self.matcher.options.decoder < 1
