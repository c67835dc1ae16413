"""The frozen backbone: images in, feature maps out, none of them encoded twice.

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, TypeAlias

import torch
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch.nn import functional as F

from ...compat import version_of
from ...structures.features import (
    Features,
    FeatureStore,
    brought_features,
    image_size,
    own_size,
    round_features,
    tensor_bytes,
)
from ...structures.frame import Frame
from ...structures.view import InputSpec
from ...utils.devices import upload
from .feature_memory import FeatureMemory

State: TypeAlias = tuple[tuple[int, int], ...]


def _state(tensors: Iterable[Tensor]) -> State:
    """Changes whenever one of the tensors is written or replaced; cheap."""
    return tuple((t.data_ptr(), version_of(t)) for t in tensors)


class FrozenEncoder(nn.Module):
    """A backbone of any registry that is always in eval mode and runs without autograd.

    It uses the output ``feature`` of the backbone, encodes ``chunk`` images at once and keeps
    ``memory`` MB of features, found by their pixels. Features of views that recur are kept in
    ``store``, on disk, by the key of the view, where there is one.
    """

    frozen = True  # no checkpoint holds it
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, backbone: Backbone, feature: str, spec: InputSpec, chunk: int = 8, memory: float = 0
    ) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False).eval()
        self.feature, self.input, self.chunk = feature, spec, chunk
        self.memory = FeatureMemory(memory)
        self.store: FeatureStore | None = None
        self._known: dict[str, tuple[State, str]] = {}
        shape = (1, 3, 1, 1)
        self.register_buffer("pixel_mean", torch.tensor(spec.mean).reshape(shape), False)
        self.register_buffer("pixel_std", torch.tensor(spec.std).reshape(shape), False)

    @property
    def stride(self) -> int:
        """Pixels per cell of the features."""
        return int(self.backbone.output_shape()[self.feature].stride)

    @property
    def channels(self) -> int:
        """C, of the features."""
        return int(self.backbone.output_shape()[self.feature].channels)

    @property
    def grid(self) -> int:
        """g, the side of the features in cells."""
        return self.input.canvas // self.stride

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stays in eval mode."""
        return super().train(False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a checkpoint without a backbone leaves this one as it is: nothing of it is missing there
        if not any(name.startswith(prefix) for name in state_dict):
            state_dict.update(self.state_dict(prefix=prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @property
    def device(self) -> torch.device:
        """Where the backbone stands."""
        return self.pixel_mean.device

    @property
    def identity(self) -> dict[str, str]:
        """What features depend on beside the input: backbone, tap and weights."""
        state = self.backbone.state_dict()
        names = sorted(state)

        def digest(*tensors: Tensor) -> str:
            digest = hashlib.sha256()
            for name, tensor in zip(names, tensors, strict=True):
                digest.update(name.encode())
                digest.update(tensor_bytes(tensor).data)
            return digest.hexdigest()[:16]

        return {
            "backbone": getattr(self.backbone, "tap", type(self.backbone).__name__),
            "feature": self.feature,
            "weights": self.read_once("backbone", [state[name] for name in names], digest),
        }

    def read_once(self, name: str, tensors: Sequence[Tensor], read: Callable[..., str]) -> str:
        """What ``read(*tensors)`` says, asked again only when one of them changed: every picture
        needs the answer, and the host has to wait for a device that it reads."""
        state = _state(tensors)
        if name not in self._known or self._known[name][0] != state:
            self._known[name] = state, read(*tensors)
        return self._known[name][1]

    @torch.no_grad()
    def forward(
        self, images: Sequence[Tensor | Mapping[str, Any]], padded: bool = False
    ) -> Features:
        """Features of images, uint8 or float (3, h, w) RGB in 0–255; h, w ≤ S, else ValueError.

        Each is normalised and then padded right and bottom with zeros, the mean colour: to the
        canvas, or with ``InputSpec.multiple`` only to the stride, and features beyond are those
        of the last cells; ``padded``: to the canvas, whatever the input says. Or of dicts that hold
        one as "image", such as episodes and references; in place of it, a dict may bring "features"
        (C, g, g) and "image_size" (h, w), and is not encoded.
        """
        whole = padded or not self.input.multiple
        views = [{"image": x} if isinstance(x, Tensor) else x for x in images]
        canvas = self.input.canvas
        for image in (x["image"] for x in views if "features" not in x):
            if image.dim() != 3 or image.shape[0] != 3 or max(image.shape[1:]) > canvas:
                raise ValueError(
                    f"image of shape {tuple(image.shape)}: expected (3, h, w) with h, w at most "
                    f"INPUT.CANVAS {canvas}"
                )
        frames = [Frame(canvas, image_size(x), own_size(x)) for x in views]
        pictures = [x.get("image") for x in views]
        stored = [self._stored(x, whole) for x in views]
        rest = [x["image"] for x, found in zip(views, stored, strict=True) if found is None]
        if len(rest) == len(stored):
            return Features(self._encode(rest, whole), frames, pictures)
        encoded = iter(self._encode(rest, whole) if rest else ())
        maps = [next(encoded) if found is None else found for found in stored]
        return Features(torch.stack(maps), frames, pictures)

    def _stored(self, image: Mapping[str, Any], whole: bool) -> Tensor | None:
        """Features (C, g, g) that an image brings along or that the store keeps; None: neither."""
        found = brought_features(image, (self.channels, self.grid, self.grid))
        if found is None:
            store, key = self.store, image.get("feature_key")
            if store is None or key is None:
                return None
            found = store.get(key)  # this or another process may just have met the same view
            if found is None:
                # by itself, in full precision and rounded: features depend neither on their batch
                # nor on whether, when and by whom they were stored
                with torch.autocast(self.device.type, enabled=False):
                    (found,) = next(self._run_backbone([image["image"]], whole))
                name = image.get("file_name", "an image")
                found = round_features(found, store.dtype or found.dtype, name)
                store.put(key, found)
        return found.to(self.device).float()

    def _encode(self, images: Sequence[Tensor], whole: bool) -> Tensor:
        """Feature maps (B, C, g, g) of images (3, h, w)."""
        if not self.memory.capacity:
            return torch.cat(list(self._run_backbone(images, whole)))
        half = torch.is_autocast_enabled(self.device.type)  # as of training, not of evaluation
        self.memory.use((*_state(self.backbone.state_dict().values()), half, whole))
        keys = [self.memory.key(image) for image in images]
        maps = {key: found for key in keys if (found := self.memory.get(key)) is not None}
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in maps}
        encoded = (one for part in self._run_backbone(list(new.values()), whole) for one in part)
        for key, one in zip(new, encoded, strict=True):
            maps[key] = one
            self.memory.put(key, one)
        return torch.stack([maps[key] for key in keys])

    def _run_backbone(self, images: Sequence[Tensor], whole: bool) -> Iterator[Tensor]:
        """Feature maps (≤ chunk, C, g, g) of normalised, padded images, chunk by chunk."""
        for (height, width), alike in groupby(images, partial(self._encoded_size, whole=whole)):
            same = list(alike)
            for start in range(0, len(same), self.chunk):
                part = same[start : start + self.chunk]
                batch = self.pixel_mean.new_zeros(len(part), 3, height, width)
                for row, image in zip(batch, part, strict=True):
                    pixels = upload(image, self.device).to(torch.float32)  # fewer bytes go there
                    if self.input.format == "BGR":
                        pixels = pixels.flip(0)
                    pixels = (pixels - self.pixel_mean[0]) / self.pixel_std[0]
                    row[:, : image.shape[1], : image.shape[2]] = pixels
                maps = self.backbone(batch)[self.feature].float()
                columns, rows = (self.grid - n for n in maps.shape[:1:-1])
                # not zeros: a decoder that saw whole canvases would take them for something
                beyond = (0, columns, 0, rows)
                yield maps if whole else F.pad(maps, beyond, mode="replicate")

    def _encoded_size(self, image: Tensor, whole: bool) -> tuple[int, int]:
        """Height and width in px at which an image (3, h, w) is encoded; ``whole``: the canvas."""
        if whole:
            return self.input.canvas, self.input.canvas
        height, width = (-(-n // self.stride) * self.stride for n in image.shape[1:])
        return height, width
