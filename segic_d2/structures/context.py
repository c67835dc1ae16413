"""What is remembered of the references: a handful of vectors per entity, never pixels.

Shape shorthand: N entities, M = ΣN of a batch, K shots, C feature channels, D text channels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from detectron2.utils.file_io import PathManager
from safetensors.torch import load_file, save


@dataclass
class Context:
    """Entities as seen in their references.

    Attributes:
        prototypes: float (N, K, C), mean feature under each reference mask (visual instruction).
        unit_prototypes: float (N, K, C), mean unit feature under each mask (Eq. 2).
        shots: bool (N, K), which shots exist; entities may have different numbers of shots.
        meta: float (N, D), text vectors (meta instruction), or None.
        ids: N entity ids, as in the episode.
        names: N, None for an entity without a name.
        task: "semantic" or "instance".
        fingerprint: what the vectors depend on; see ``SegIC.fingerprint``. Empty: not checked.
        about: where the references come from, as JSON can hold it; for whoever made the context.
        background: float (N, K, C), mean unit feature around each mask, or None where the model
            does not ask for it (``MODEL.SEGIC.BACKGROUND``).
    """

    prototypes: torch.Tensor
    unit_prototypes: torch.Tensor
    shots: torch.Tensor
    meta: torch.Tensor | None
    ids: list[int]
    names: list[str | None]
    task: str = "semantic"
    fingerprint: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    background: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Context:
        """The same context with its tensors on ``device``."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in self._tensors().items()}
        return replace(self, **moved)

    @classmethod
    def joined(cls, contexts: Sequence[Context]) -> Context:
        """One context of all entities of several, in their order; shots padded to the largest K.

        Args:
            contexts: of one model and one task, all with text vectors or all without.
        """
        most = max(c.shots.shape[1] for c in contexts)

        def all_of(name: str) -> torch.Tensor:
            parts = [c._tensors()[name] for c in contexts]
            if name != "meta":
                missing = [(*x.shape[:1], most - x.shape[1], *x.shape[2:]) for x in parts]
                pairs = zip(parts, missing, strict=True)
                parts = [torch.cat([x, x.new_zeros(shape)], 1) for x, shape in pairs]
            return torch.cat(parts)

        tensors: dict[str, Any] = {name: all_of(name) for name in contexts[0]._tensors()}
        return replace(
            contexts[0],
            ids=[i for c in contexts for i in c.ids],
            names=[n for c in contexts for n in c.names],
            **tensors,
        )

    def take(
        self, rows: torch.Tensor | Sequence[int], shots: torch.Tensor | None = None
    ) -> Context:
        """Some of the entities, in the order of ``rows``.

        Args:
            rows: (n,).
            shots: bool (N, K), those that remain; None: all. ``rows`` names none without any.
        """
        rows = torch.as_tensor(rows, dtype=torch.long, device=self.shots.device)
        kept = self if shots is None else replace(self, shots=self.shots & shots)
        tensors: dict[str, Any] = {k: v[rows] for k, v in kept._tensors().items()}
        return replace(
            self,
            ids=[self.ids[i] for i in rows.tolist()],
            names=[self.names[i] for i in rows.tolist()],
            **tensors,
        )

    def mean_unit(self, released: bool = False, eps: float = 1e-8) -> torch.Tensor:
        """One vector per entity for the propagated mask, (N, C): the mean over its shots.

        ``released`` takes the direction of each pooled prototype instead of its mean unit feature.
        """
        vectors = direction(self.prototypes, eps) if released else self.unit_prototypes
        return self._mean_over_shots(vectors)

    def mean_background(self) -> torch.Tensor | None:
        """The mean of ``background`` over the shots, (N, C), or None."""
        return None if self.background is None else self._mean_over_shots(self.background)

    def _mean_over_shots(self, vectors: torch.Tensor) -> torch.Tensor:
        weight = self.shots.to(vectors.dtype)
        return (vectors * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)

    def check(self, fingerprint: Mapping[str, Any]) -> None:
        """Raise ValueError if the context was made by another model, naming every difference."""
        keys = sorted(set(self.fingerprint) | set(fingerprint)) if self.fingerprint else ()
        differences = [
            f"{key}: context {self.fingerprint.get(key)!r}, model {fingerprint.get(key)!r}"
            for key in keys
            if self.fingerprint.get(key) != fingerprint.get(key)
        ]
        if differences:
            raise ValueError("the context was made by another model: " + "; ".join(differences))

    def shot_tensors(self) -> dict[str, torch.Tensor]:
        """By name, (N, K, …): all but the text vectors."""
        names = ("prototypes", "unit_prototypes", "shots", "background")
        return {k: getattr(self, k) for k in names if getattr(self, k) is not None}

    def _tensors(self) -> dict[str, torch.Tensor]:
        return self.shot_tensors() | ({} if self.meta is None else {"meta": self.meta})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the context to a .safetensors file of a few KB per entity."""
        about = {k: getattr(self, k) for k in ("ids", "names", "task", "fingerprint", "about")}
        tensors = {k: v.detach().cpu().contiguous() for k, v in self._tensors().items()}
        data = save(tensors, metadata={"segic_d2.context": json.dumps(about)})
        Path(path).write_bytes(data)  # save_file would hide it from everyone else

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Context:
        """Read a context from the file that ``save`` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is not a context.
        """
        if not PathManager.isfile(str(path)):
            raise FileNotFoundError(f"context file not found: {path}")
        try:
            tensors: dict[str, Any] = load_file(str(path))
            about = json.loads(_metadata(path)["segic_d2.context"])
            return cls(meta=tensors.pop("meta", None), **tensors, **about)
        except Exception as e:
            raise ValueError(f"{path} is not a context file of segic_d2: {e}") from e


def _metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    from safetensors import safe_open

    with safe_open(str(path), "pt") as f:
        return f.metadata() or {}


def direction(prototypes: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Unit vectors (…, C) of mean features, in place of the mean of unit features."""
    return prototypes / prototypes.norm(dim=-1, keepdim=True).clamp(min=eps)
