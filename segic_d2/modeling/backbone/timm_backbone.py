"""Any timm vision model as a Detectron2 backbone.

Shapes: B images, 3 RGB channels, C channels of a map, H×W pixels, s its stride.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import timm
import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from torch import Tensor, nn

from .position_embedding import build_positions
from .resample import pad_to_cells, resample_cells, whole_cells

FEATURE = "feat"  # the name of the taps, concatenated


class TimmBackbone(Backbone):
    """One feature map of a timm model, ViT or CNN, or one for each of its taps.

    The model keeps the position embedding of its checkpoint and resamples it to the size of each
    input. Layers behind the last tap are dropped. A frozen one is always in eval mode, without
    autograd.

    Attributes:
        model: the pruned timm model. frozen: whether it is never trained.
        stride: pixels per cell of the (coarsest) map.
        pixel_mean, pixel_std: lists of three floats, RGB, 0–255 units, from timm's data config.
        tap: model, taps, norm, positions and stride in a word, for fingerprints.
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
        stride: int = 0,
        out_features: Sequence[str] = (FEATURE,),
        frozen: bool = True,
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
            stride: px, a power of two to which maps are resampled, see ``resample.py``; inputs of
                any size run then. 0: the model's own.
            out_features: ("feat",), the map of ``blocks``; or, in their place, taps that are maps
                of their own, "block7" or "stage2", each with its stride.
            frozen: eval mode, no gradients, no autograd; False: it trains like any backbone.
            kwargs: further arguments of the timm model, e.g. ``depth=2`` for a small stand-in.

        Raises:
            ValueError: unknown name; block or output out of range; taps of different strides for
                one map or stride; a stride that is no power of two; canvas that is no multiple of
                the stride; norm, side or positions unknown to the model.
        """
        super().__init__()
        self.name, self.norm, self.frozen = name, norm, frozen
        with torch.device("meta"):  # everything that can be wrong shows here, before any work
            model = _create(name, kwargs)
            self.positions = build_positions(positions, model, name)
            self.named = {} if tuple(out_features) == (FEATURE,) else _named(out_features, model)
            self.blocks = sorted({*self.named.values()}) or _take(blocks, model, name)
            self._set_strides(stride, model)
            data = timm.data.resolve_model_data_config(model)
            side = canvas or data["input_size"][-1]
            if canvas or not stride:
                self._check_side("INPUT.CANVAS", side)
            try:
                self._channels = self._try(model, side)
            except (ValueError, RuntimeError):
                if not model.pretrained_cfg.get("fixed_input_size"):
                    raise
                # built for one size, so let it be this one
                kwargs = {**kwargs, "img_size": self._input_side(side)}
                self._channels = self._try(_create(name, kwargs), side)
        self.pixel_mean, self.pixel_std = _statistics(data)
        self.tap = f"{name}/{'+'.join(map(str, self.blocks))}/{'norm' if norm else 'raw'}"
        if positions != "timm":  # contexts made before there was a choice stay valid
            self.tap += f"/{positions}-positions"
        if self.stride != self.divisor and stride:
            self.tap += f"/stride{stride}"

        self.kwargs, self.model = kwargs, _create(name, kwargs)
        self.model.prune_intermediate_layers(self.blocks, prune_norm=not norm, prune_head=True)
        if frozen:
            self.requires_grad_(False).eval()

    def _set_strides(self, stride: int, model: nn.Module) -> None:
        """Set ``resampled``; ``stride``, of the coarsest map; ``divisor``, of which the sides of
        the model's input are multiples."""
        own = {i: model.feature_info[i]["reduction"] for i in self.blocks}
        if stride < 0 or stride & (stride - 1):
            raise ValueError(f"MODEL.TIMM.STRIDE {stride}: it must be a power of two, or 0")
        if len({*own.values()}) > 1 and (stride or not self.named):
            raise ValueError(
                f"MODEL.TIMM.BLOCKS {self.blocks} of {self.name!r} have different strides "
                f"{[*own.values()]}; only blocks of one stride can be concatenated or resampled"
            )
        self.resampled, self.divisor = bool(stride), math.lcm(*own.values())
        self.stride = stride or max(own.values())
        self._strides = {f: stride or own[i] for f, i in self.named.items()}

    def _try(self, model: nn.Module, side: int) -> dict[str, int]:
        """Run a model on the meta device and return the channels of its maps."""
        self.model = model.eval()
        with torch.no_grad():
            maps = self(torch.empty(1, 3, side, side))
        return {name: one.shape[1] for name, one in maps.items()}

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec | None = None) -> dict[str, Any]:
        options = cfg.MODEL.TIMM
        return {
            "name": options.NAME,
            "blocks": options.BLOCKS,
            "norm": options.NORM,
            "canvas": cfg.INPUT.CANVAS,
            "positions": options.POS_EMBED,
            "stride": options.STRIDE,
            "out_features": options.OUT_FEATURES,
            "frozen": options.FROZEN,
        }

    def _check_side(self, what: str, value: int) -> None:
        stride = self.size_divisibility
        if value < stride or value % stride:
            raise ValueError(
                f"{what} {value} is no positive multiple of the stride {stride} of {self.name}"
            )

    def _input_side(self, side: int) -> int:
        """The side of the model's input for a side of ours."""
        return whole_cells(side, self.stride, self.divisor) if self.resampled else side

    def train(self, mode: bool = True) -> TimmBackbone:
        """A frozen one stays in eval mode."""
        return super().train(mode and not self.frozen)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images, float (B, 3, H, W), RGB → {name of an output: float (B, C, H/s, W/s)};
        ValueError for a side that is no multiple of s, or not the canvas of a model that is built
        for one. A resampled map has ⌈H/s⌉×⌈W/s⌉ cells, of any H and W."""
        rows, columns = (-(-side // self.stride) for side in images.shape[-2:])
        if self.resampled:
            images = pad_to_cells(images, self.stride, self.divisor)
        else:
            for what, value in zip(("height", "width"), images.shape[-2:], strict=True):
                self._check_side(f"input {what}", value)
        with torch.no_grad() if self.frozen else nullcontext():
            maps = self._run(images)
            if self.resampled and self.stride != self.divisor:
                size = rows, columns
                maps = [resample_cells(one, self.divisor, self.stride, size) for one in maps]
            if self.named:
                return {name: maps[self.blocks.index(i)] for name, i in self.named.items()}
            return {FEATURE: maps[0] if len(maps) == 1 else torch.cat(maps, dim=1)}

    def _run(self, images: Tensor) -> list[Tensor]:
        """The model's own maps of its taps."""
        try:
            model = self.positions(self.model, *images.shape[-2:])
            options = {"indices": self.blocks, "norm": self.norm, "output_fmt": "NCHW"}
            return model.forward_intermediates(images, intermediates_only=True, **options)
        except AssertionError as error:  # timm's answer to a size or norm the model does not know
            raise ValueError(
                f"MODEL.TIMM.NAME {self.name!r} does not run with MODEL.TIMM.BLOCKS {self.blocks}, "
                f"MODEL.TIMM.NORM {self.norm} on input {tuple(images.shape)}: {error}"
            ) from error

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=channels, stride=self._strides.get(name, self.stride))
            for name, channels in self._channels.items()
        }

    @property
    def size_divisibility(self) -> int:
        return self.stride if self.resampled else self.divisor


def timm_statistics(name: str) -> tuple[list[float], list[float]]:
    """``pixel_mean`` and ``pixel_std`` of a timm model, which is not built; ValueError: unknown."""
    _check_name(name)
    return _statistics(timm.data.resolve_data_config(timm.get_pretrained_cfg(name).to_dict()))


def _statistics(data: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    mean, std = ([255.0 * v for v in data[key]] for key in ("mean", "std"))
    return mean, std


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


def _named(names: Sequence[str], model: nn.Module) -> dict[str, int]:
    """{name of an output: index of its block}."""
    count = len(model.feature_info)
    found = {name: re.fullmatch(r"(?:block|stage)(\d+)", name) for name in names}
    taps = {name: int(match[1]) for name, match in found.items() if match}
    if not taps or len(taps) < len(found) or max(taps.values()) >= count:
        raise ValueError(
            f"MODEL.TIMM.OUT_FEATURES {tuple(names)}: it must be ('{FEATURE}',), or some of "
            f"'block0' to 'block{count - 1}' (or 'stage…'), numbered as MODEL.TIMM.BLOCKS"
        )
    if len({*taps.values()}) < len(names):
        raise ValueError(f"MODEL.TIMM.OUT_FEATURES {tuple(names)} names a block twice")
    return taps
