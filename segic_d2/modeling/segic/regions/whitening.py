"""Whitened features: what all photographs share counts less in cosines, in every direction.

A group of channels (a tapped block) is centred, turned into the principal axes of the backbone's
features over free photographs, and each axis is scaled by its variance to a small negative power.
The statistics are fixed and come from other pictures, so that contexts do not depend on targets.

Shapes: G groups of D channels, C = G·D channels, B images, n cells.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from ....structures.episode import View
from ....utils.files import write_whole
from ...layers.precision import without_autocast
from ...protocol import InContextModel
from .positional import Debias

EMBEDDED = Path(__file__).parents[3] / "weights" / "whitening-embedded.safetensors"
KEY = "MODEL.SEGIC.REGIONS.WHITENING"
POWER, FLOOR = -0.1, 0.1  # of the variances; what is added to each, of their mean
NAMES = "mean", "variances", "axes"


class Whitening(nn.Module):
    """Unit features, one length per group, whose dot product is the mean cosine of the groups.

    Args:
        groups, channels: G and C. mean: float (G, D), variances (G, D) and axes (G, D, D), in
            columns, of the features of photographs; without variances and axes features are centred
            alone, without a mean they stay as they are. debias: of centred features; not of those
            that are not to be whitened.
    """

    mean: Tensor | None
    scaled: Tensor | None

    def __init__(
        self,
        groups: int,
        channels: int,
        mean: Tensor | None = None,
        variances: Tensor | None = None,
        axes: Tensor | None = None,
        debias: Debias | None = None,
    ) -> None:
        super().__init__()
        self.groups, self.channels, scaled = groups, channels, None
        self.debias = debias or Debias(groups, channels, 0)
        if variances is not None and axes is not None:
            floor = FLOOR * variances.mean(1, keepdim=True)
            scaled = axes * ((variances + floor) ** POWER)[:, None]
        # of the backbone, not of what is trained: no checkpoint holds them
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scaled", scaled, persistent=False)

    @classmethod
    def from_file(
        cls, path: str, groups: int, channels: int, debias: Debias | None = None
    ) -> Whitening:
        """The statistics of a file, "embedded": those that ship, of blocks 8 and 9 of the embedded
        ViT-S. FileNotFoundError: no such file; ValueError: other groups or channels."""
        mean, variances, axes = load_statistics(path, groups, channels)
        return cls(groups, channels, mean, variances, axes, debias)

    @without_autocast
    def units(self, features: Tensor, whiten: bool = True) -> Tensor:
        """Features (B, ≥ C, n) → float32 (B, n, C), of length 1; ``whiten`` False: only centred.
        Channels beyond the groups' are left out."""
        used = features[:, : self.channels].float()
        parts = used.unflatten(1, (self.groups, -1)).transpose(2, 3)  # (B, G, n, D)
        if self.mean is not None:
            parts = parts - self.mean[:, None]
        if whiten:
            parts = self.debias(parts)
        if whiten and self.scaled is not None:
            parts = parts @ self.scaled
        units = F.normalize(parts, dim=-1, eps=1e-8) / self.groups**0.5
        return units.transpose(1, 2).flatten(2)


@torch.no_grad()
def compute_statistics(
    model: InContextModel, images: Iterable[Tensor | View], groups: int, channels: int
) -> dict[str, Tensor]:
    """Mean, variances and axes (see ``Whitening``) of the cells of pictures (``encode_images``),
    of the first ``channels``; every cell counts alike. ValueError: no pictures."""
    width, count = channels // groups, 0
    total = torch.zeros(groups, width, dtype=torch.float64)
    square = torch.zeros(groups, width, width, dtype=torch.float64)
    for image in images:
        features = model.encode_images([image])
        inside = features.frames[0].cells(features.map.shape[-1], features.map.device)
        cells = features.map[0, :channels, inside].double().cpu().unflatten(0, (groups, width))
        total += cells.sum(2)
        square += cells @ cells.transpose(1, 2)
        count += cells.shape[2]
    if not count:
        raise ValueError("no pictures to compute the statistics of")
    mean = total / count
    variances, axes = torch.linalg.eigh(square / count - mean[:, :, None] * mean[:, None])
    found = mean, variances.clamp(min=0), axes
    return {name: values.float() for name, values in zip(NAMES, found, strict=True)}


def save_statistics(statistics: dict[str, Tensor], path: str | Path) -> None:
    """Write statistics for ``MODEL.SEGIC.REGIONS.WHITENING``; the axes in half precision."""
    kept = {**statistics, "axes": statistics["axes"].half()}
    write_whole(path, save({name: kept[name].contiguous() for name in NAMES}))


def load_statistics(path: str, groups: int, channels: int) -> list[Tensor]:
    """Mean, variances and axes of a file; the errors are those of ``Whitening.from_file``."""
    file = EMBEDDED if path == "embedded" else Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"{KEY} {file}: no such file")
    try:
        held = load_file(str(file))
        found = [held[name].float() for name in NAMES]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{KEY} {file} holds no statistics of features: {error}") from error
    if tuple(found[0].shape) != (groups, channels // groups):
        raise ValueError(
            f"{KEY} {file} is for {tuple(found[0].shape)} groups and channels; the similarity of "
            f"this model has {(groups, channels // groups)}"
        )
    return found
