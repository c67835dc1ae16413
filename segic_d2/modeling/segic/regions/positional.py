"""Positional debias: what features say of where a cell lies is left out of cosines.

The backbone's features of a flat grey picture tell positions alone. Their leading principal
directions, in each group of channels, are projected out of the features of pictures (a step of
INSID3). They follow from the backbone, so that no checkpoint holds them.

Shapes: G groups of D channels, g grid side (cells), k directions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...layers.frozen_encoder import FrozenEncoder
from ...layers.precision import without_autocast

GREY = 128.0  # of the flat picture, of 255


class Debias:
    """The ``count`` leading directions of each of ``groups`` groups of the first ``channels``
    channels, found when a backbone is first asked and again when its weights change. ValueError: as
    many directions as a group has channels, or more."""

    def __init__(self, groups: int, channels: int, count: int) -> None:
        if count >= (width := channels // groups):
            raise ValueError(
                f"MODEL.SEGIC.REGIONS.DEBIAS is {count}; it must be below {width}, the channels of "
                "a group"
            )
        self.groups, self.channels, self.count = groups, channels, count
        self.directions: Tensor | None = None
        self._weights = ""

    def look(self, encoder: FrozenEncoder) -> None:
        """Find ``directions``, orthonormal float32 (G, D, k), of the backbone of an encoder."""
        weights = encoder.identity["weights"] if self.count else self._weights
        if weights != self._weights:
            self.directions = self._found(encoder)
            self._weights = weights

    @without_autocast
    @torch.no_grad()
    def _found(self, encoder: FrozenEncoder) -> Tensor:
        side = encoder.input.canvas
        flat = encoder([torch.full((3, side, side), GREY)]).map[0, : self.channels]
        cells = flat.float().flatten(1).unflatten(0, (self.groups, -1))  # (G, D, g²)
        directions, *_ = torch.linalg.svd(cells - cells.mean(2, keepdim=True), full_matrices=False)
        return directions[:, :, : self.count]

    def __call__(self, parts: Tensor) -> Tensor:
        """Features (B, G, n, D) without the directions."""
        if self.directions is None:
            return parts
        directions = self.directions.to(parts.device)
        return parts - (parts @ directions) @ directions.transpose(1, 2)
