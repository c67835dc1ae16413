"""How references become a context: read their shots, pool them, arrange them by entity.

Shapes: R references, N entities, K shots, C feature channels, D text channels, g grid side (cells),
n masks of a reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...structures.context import CELLS, PROTOTYPES, Context
from ...structures.episode import Names, Reference
from ...structures.features import image_size
from ...structures.view import InputSpec
from ...utils.devices import upload
from ..layers.correspondence import pool_mask
from ..layers.precision import without_autocast
from ..layers.similarity import Similarity
from ..text.encoder import TextEncoder, build_text_encoder
from . import released
from .regions.matcher import RegionMatcher, Seen


@dataclass(frozen=True)
class Shot:
    """Masks of entities in one image whose features are known: float in [0, 1] (n, h, w), at
    network size, and the n entities. ``keep_empty``: a mask that weighs nothing counts, with an
    all-zero prototype. ``whole``: features (C, g, g) of the whole picture and the masks there;
    None: cells of the reference are not asked for."""

    masks: Tensor
    ids: Sequence[int]
    keep_empty: bool = False
    whole: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Texts:
    """The meta instruction: an encoder, or None, and the sentences that it is given."""

    encoder: TextEncoder | None = None
    semantic: str = "{}"
    instance: str = ""

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Texts:
        text = cfg.MODEL.SEGIC.TEXT
        return cls(build_text_encoder(cfg), text.SEMANTIC_TEMPLATE, text.INSTANCE_TEXT)

    def vectors(self, names: Sequence[str | None], task: str) -> Tensor | None:
        """Text vectors (N, D) of names on the CPU, or None without an encoder."""
        if self.encoder is None:
            return None
        if task == "instance":
            return self.encoder.encode([self.instance] * len(names))
        return self.encoder.encode([self.semantic.format(n) if n else "" for n in names])


class ContextEncoder:
    """Pools features under masks, as an ``InputSpec`` and a ``Similarity`` (its mean and groups)
    say, into contexts of prototypes; with a ``RegionMatcher``, and whole pictures, of cells."""

    def __init__(
        self,
        spec: InputSpec,
        similarity: Similarity,
        rules: released.Rules = released.PAPER,
        texts: Texts | None = None,
        matcher: RegionMatcher | None = None,
    ) -> None:
        self.spec, self.similarity, self.rules = spec, similarity, rules
        self.texts, self.matcher = texts or Texts(), matcher

    def from_references(
        self,
        maps: Tensor,
        references: Sequence[Reference],
        names: Names,
        task: str = "semantic",
        wholes: Sequence[Tensor] | None = None,
    ) -> Context:
        """The context of references whose features (R, C, g, g) are known; only masks, ids, size
        and file name are read. ``task``, "semantic" or "instance", chooses the text. ``wholes``: R
        features (C, g, g) of their whole pictures, for contexts of cells.

        Raises:
            ValueError: masks of another size than their image, an entity that nobody asked for, an
                entity without a non-empty mask (named).
        """
        shots = [self._shot(reference, names) for reference in references]
        if wholes is not None:
            pairs = zip(shots, references, wholes, strict=True)
            shots = [replace(s, whole=(x, r.get("whole", r)["masks"])) for s, r, x in pairs]
        files = sorted({str(r["file_name"]) for r in references if "file_name" in r})
        return self.from_masks(maps, shots, names, task, files)

    def _shot(self, reference: Reference, names: Names) -> Shot:
        masks, size = reference["masks"], image_size(reference)
        file = reference.get("file_name", "")
        if tuple(masks.shape[-2:]) != size:
            raise ValueError(
                f"reference {file}: masks of {tuple(masks.shape[-2:])} px for an image of {size} px"
            )
        ids = [int(i) for i in reference["entity_ids"]]
        if not set(ids) <= set(names) or len(ids) != len(masks):
            raise ValueError(
                f"reference {file}: {len(masks)} masks for entities {ids}; asked for are "
                f"{list(names)}"
            )
        return Shot(masks, ids, self.spec.released)

    @without_autocast
    def from_masks(
        self,
        maps: Tensor,
        shots: Sequence[Shot],
        names: Names,
        task: str = "semantic",
        files: Sequence[str] = (),
    ) -> Context:
        """The context of masks in R images whose features (R, C, g, g) are known: references,
        predictions of context reversion, frames of a video. ``files`` are of the images, for the
        error. ValueError: an entity without a non-empty mask (named)."""
        pooled = [self._pool(x, shot) for x, shot in zip(maps, shots, strict=True)]
        pooled = pooled or [
            self._pool(maps.new_zeros(maps.shape[1:]), Shot(maps.new_zeros(0, 1, 1), ()))
        ]
        parts = {k: torch.cat([part[k] for part in pooled]) for k in pooled[0]}
        shown = parts.pop("shown")
        row_of = {entity: row for row, entity in enumerate(names)}
        rows = [row_of[i] for shot in shots for i in shot.ids]
        counts, slots, kept = [0] * len(names), [], []
        for i, counted in enumerate(known_on_host(shown)):
            if counted:
                kept.append(i)
                slots.append(counts[rows[i]])  # so many shots its entity has already
                counts[rows[i]] += 1
        _check_all_shown(names, counts, files)
        most, device = max(counts, default=0), maps.device
        source = upload(kept, device, torch.long)
        place = tuple(upload(x, device, torch.long) for x in ([rows[i] for i in kept], slots))

        def by_shot(values: Tensor) -> Tensor:
            placed = values.new_zeros(len(names), most, *values.shape[1:])
            placed[place] = values[source]
            return placed

        tensors = {name: by_shot(values) for name, values in parts.items()}
        if self.rules.direction:
            tensors["unit_prototypes"] = released.direction(tensors["prototypes"])
        exists = torch.arange(most, device=device) < upload(counts, device)[:, None]
        meta = self.texts.vectors(list(names.values()), task)
        meta = None if meta is None else meta.to(device)
        kind = CELLS if "cells" in tensors else PROTOTYPES
        return Context(kind, exists, tensors, meta, list(names), list(names.values()), task)

    def weights(self, masks: Tensor, grid: int) -> Tensor:
        """Weights (n, g, g) of the cells under masks (n, h, w) at network size."""
        return pool_mask(masks, self.spec.canvas, grid, center=self.spec.released)

    def _pool(self, feature: Tensor, shot: Shot) -> dict[str, Tensor]:
        """Tensors (n, …) of a context, of n masks in (C, g, g); "shown": which are shots."""
        grid = feature.shape[-1]
        masks = self._masks(shot.masks, feature)
        weights = pooled = self.weights(masks, grid)
        if self.similarity.background:
            whole = pool_mask(torch.ones_like(masks[:1]), self.spec.canvas, grid)
            pooled = torch.cat([weights, (whole - weights).clamp(min=0)])
        prototypes, units = self.similarity.pool(feature, pooled)
        n, shown = len(masks), weights.flatten(1).sum(1) > 0
        if shot.keep_empty:
            shown = torch.ones_like(shown)
        found = {"shown": shown, "prototypes": prototypes[:n], "unit_prototypes": units[:n]}
        if self.similarity.background:
            found["background"] = units[n:]
        if self.matcher is not None and shot.whole is not None:
            features, far = shot.whole[0], self._masks(shot.whole[1], feature)
            cut, around = (
                Seen(x, (int(m.shape[-2]), int(m.shape[-1])), self.weights(m, grid))
                for x, m in ((feature, masks), (features, far))
            )
            found |= self.matcher.shots(cut, around)
        return found

    def _masks(self, masks: Tensor, feature: Tensor) -> Tensor:
        masks = upload(masks, feature.device).to(feature.dtype)
        return released.binarize(masks) if self.spec.binarize else masks


def known_on_host(shown: Tensor) -> list[bool]:
    """Which masks weigh something: all that the host has to wait for in the pooling, for the number
    of shots decides the shape of a context."""
    return shown.tolist()


def _check_all_shown(names: Names, counts: Sequence[int], files: Sequence[str]) -> None:
    missing = [entity for entity, k in zip(names, counts, strict=True) if k == 0]
    if missing:
        named = ", ".join(f"{i} ({names[i]!r})" if names[i] else str(i) for i in missing)
        raise ValueError(
            f"no reference with a non-empty mask for entity {named}"
            + (f" in {', '.join(files[:5])}" if files else "")
        )
