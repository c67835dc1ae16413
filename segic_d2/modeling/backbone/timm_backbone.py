"""Any timm vision model as a frozen Detectron2 backbone.

Shapes: B images, 3 RGB channels, C channels of the map, H×W pixels, s the stride.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from .position_embedding import build_positions


class TimmBackbone(Backbone):
    """One feature map of a frozen timm model, ViT or CNN.

    The model keeps the position embedding of its checkpoint and resamples it to the size of each
    input. Layers behind the last tap are dropped. It is always in eval mode, without autograd.

    Attributes:
        model: the pruned timm model. stride: pixels per cell of the map.
        pixel_mean, pixel_std: lists of three floats, RGB, 0–255 units, from timm's data config.
        tap: model, taps, norm and positions in a word, for fingerprints.
    """

    @configurable
    def __init__(
        self,
        *,
        name: str,
        blocks: int | Sequence[int] = (-1,),
        norm: bool = True,
        canvas: int | None = None,
        positions: str = "timm",
        **kwargs: Any,
    ) -> None:
        """
        Args:
            name: any name of ``timm.list_models()``, with or without a pretrained tag.
            blocks: 0-based blocks (ViT) or stages (CNN) to tap, negative from the end; several are
                concatenated on channels, in ascending order.
            norm: apply the final norm to every tapped ViT block.
            canvas: px, side of the square input, checked against the stride; None: timm's own. Any
                other size runs too, but for the few models that are built for one size.
            positions: "timm" or "dinov2", see ``position_embedding.py``.
            kwargs: further arguments of the timm model, e.g. ``depth=2`` for a small stand-in.

        Raises:
            ValueError: unknown name; block out of range; taps of different strides; canvas that
                is no multiple of the stride; norm, side or positions unknown to the model.
        """
        super().__init__()
        self.name, self.norm = name, norm
        with torch.device("meta"):  # everything that can be wrong shows here, before any work
            model = _create(name, kwargs)
            self.positions = build_positions(positions, model, name)
            self.blocks = _take(blocks, model, name)
            self.stride = _common_stride(self.blocks, model, name)
            data = timm.data.resolve_model_data_config(model)
            side = canvas or data["input_size"][-1]
            self._check_side("INPUT.CANVAS", side)
            try:
                self._channels = self._try(model, side)
            except (ValueError, RuntimeError):
                if not model.pretrained_cfg.get("fixed_input_size"):
                    raise
                kwargs = {**kwargs, "img_size": side}  # built for one size, so let it be this one
                self._channels = self._try(_create(name, kwargs), side)
        self.pixel_mean = [255.0 * v for v in data["mean"]]
        self.pixel_std = [255.0 * v for v in data["std"]]
        self.tap = f"{name}/{'+'.join(map(str, self.blocks))}/{'norm' if norm else 'raw'}"
        if positions != "timm":  # contexts made before there was a choice stay valid
            self.tap += f"/{positions}-positions"

        self.kwargs, self.model = kwargs, _create(name, kwargs)
        self.model.prune_intermediate_layers(self.blocks, prune_norm=not norm, prune_head=True)
        self.requires_grad_(False).eval()

    def _try(self, model: nn.Module, side: int) -> int:
        """Run a model on the meta device and return the channels of its map."""
        self.model = model.eval()
        return self(torch.empty(1, 3, side, side))["feat"].shape[1]

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        options = cfg.MODEL.TIMM
        return {
            "name": options.NAME,
            "blocks": options.BLOCKS,
            "norm": options.NORM,
            "canvas": cfg.INPUT.CANVAS,
            "positions": options.POS_EMBED,
        }

    def _check_side(self, what: str, value: int) -> None:
        if value < self.stride or value % self.stride:
            raise ValueError(
                f"{what} {value} is no positive multiple of the stride {self.stride} of {self.name}"
            )

    def train(self, mode: bool = True) -> TimmBackbone:
        """Stay in eval mode: a frozen network has no other."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images, float (B, 3, H, W), RGB → {"feat": float (B, C, H/s, W/s)}; ValueError
        for a side that is no multiple of s, or not the canvas of a model that is built for one."""
        for what, value in zip(("height", "width"), images.shape[-2:], strict=True):
            self._check_side(f"input {what}", value)
        try:
            model = self.positions(self.model, *images.shape[-2:])
            options = {"indices": self.blocks, "norm": self.norm, "output_fmt": "NCHW"}
            maps = model.forward_intermediates(images, intermediates_only=True, **options)
        except AssertionError as error:  # timm's answer to a size or norm the model does not know
            raise ValueError(
                f"MODEL.TIMM.NAME {self.name!r} does not run with MODEL.TIMM.BLOCKS {self.blocks}, "
                f"MODEL.TIMM.NORM {self.norm} on input {tuple(images.shape)}: {error}"
            ) from error
        return {"feat": maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {"feat": ShapeSpec(channels=self._channels, stride=self.stride)}

    @property
    def size_divisibility(self) -> int:
        return self.stride


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> TimmBackbone:
    """The timm model of ``cfg.MODEL.TIMM``, without weights (see ``load_backbone_weights``)."""
    return TimmBackbone(cfg, input_shape)


def _create(name: str, kwargs: Mapping[str, Any]) -> nn.Module:
    _check_name(name)
    for extra in ({"dynamic_img_size": True}, {"strict_img_size": False}, {}):
        # plain ViTs know the first word, windowed ones the second, convolutional networks neither
        try:
            model = timm.create_model(name, pretrained=False, num_classes=0, **extra, **kwargs)
            break
        except TypeError as error:
            if not any(key in str(error) for key in extra):
                raise
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"MODEL.TIMM.NAME {name!r}: timm offers no intermediate features of it")
    return model


def _check_name(name: str) -> None:
    """Refuse a name that timm does not know, with the nearest that it does."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"MODEL.TIMM.NAME {name!r} is no model of timm {timm.__version__}"
            + (f"; similar: {', '.join(near)}" if near else "")
        )
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ValueError(
            f"MODEL.TIMM.NAME {name!r}: {architecture} has no pretrained tag {tag!r}; "
            f"it has {', '.join(tags) or 'none'}"
        )


def _take(blocks: int | Sequence[int], model: nn.Module, name: str) -> list[int]:
    """Ascending non-negative indices of the blocks to tap."""
    count = len(model.feature_info)
    blocks = tuple(blocks) if isinstance(blocks, Sequence) else (blocks,)
    if not blocks or any(not isinstance(i, int) or not -count <= i < count for i in blocks):
        raise ValueError(
            f"MODEL.TIMM.BLOCKS {blocks}: {name!r} has {count} blocks; give one or more indices "
            f"in {-count}..{count - 1}"
        )
    taken = sorted(i % count for i in blocks)
    if len(set(taken)) < len(taken):
        raise ValueError(f"MODEL.TIMM.BLOCKS {blocks} names a block of {name!r} twice")
    return taken


def _common_stride(blocks: Sequence[int], model: nn.Module, name: str) -> int:
    strides = [model.feature_info[i]["reduction"] for i in blocks]
    if len(set(strides)) > 1:
        raise ValueError(
            f"MODEL.TIMM.BLOCKS {blocks} of {name!r} have different strides {strides}; "
            "only blocks of one stride can be concatenated"
        )
    return strides[0]
