"""What a model remembers of its references, whatever its kind; saved and loaded by one pair of
calls.

Shapes: N entities, K shots, C feature channels, D text channels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from detectron2.utils.file_io import PathManager
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from ..utils.files import write_whole
from ..utils.remote import first_line

PROTOTYPES = "prototypes"  # SegIC's kind: vectors of a few KB per entity, never pixels
CELLS = "cells"  # prototypes, and cells of references: at most 400 KB per entity and shot
PIXELS = "pixels"  # pictures and masks on the canvas themselves: 0.8 MB per shot at 448 px
WEIGHT, TOKEN, PARTS, COUNTS = "weight", "token", "parts", "counts"  # of memories, see ``Context``

_ABOUT = ("kind", "ids", "names", "task", "fingerprint", "about")


@dataclass
class Context:
    """Entities as seen in their references.

    Attributes:
        kind: what the tensors are; a model takes contexts of its own kind.
        shots: bool (N, K), which shots exist; entities may have different numbers of shots.
        tensors: {name: tensor (N, K, …)}. Kind "prototypes": "prototypes" (C,), the mean feature
            under the mask (visual instruction); "unit_prototypes" (C,), the mean unit feature (Eq.
            2); and where a model asks for it "background" (C,), the mean unit feature around the
            mask. What a memory reads may have "weight" (), the share of a shot in means over shots;
            "token" (), 1 of shots that are tokens too; "parts" (P, C), mean unit features of parts
            of the entity, the most alike of which counts in place of the mean, with "counts" (P,),
            0 where there is no part. Kind "pixels": uint8 "image" (3, S, S) and "mask" (S, S), 0 or
            1; of one that was tuned float "image" and "colour" (3, S, S), normalised.
        meta: float (N, D), text vectors (meta instruction), or None. ids: as in the episode.
        task: "semantic" or "instance".
        fingerprint: what the tensors depend on, see ``InContextModel``. Empty: not checked.
        about: where the references come from, as JSON can hold it; for whoever made the context.
    """

    kind: str
    shots: Tensor
    tensors: dict[str, Tensor]
    meta: Tensor | None
    ids: list[int]
    names: list[str | None]
    task: str = "semantic"
    fingerprint: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bytes(self) -> int:
        """What its tensors take in memory."""
        return sum(x.numel() * x.element_size() for x in self.tensors.values())

    def to(self, device: torch.device | str) -> Context:
        """The same context with its tensors on a device."""
        return self._changed(lambda x: x.to(device))

    def _changed(self, change: Callable[[Tensor], Tensor], **other: Any) -> Context:
        """The context with each of its tensors changed, and other fields."""
        meta = None if self.meta is None else change(self.meta)
        tensors = {k: change(v) for k, v in self.tensors.items()}
        return replace(self, shots=change(self.shots), tensors=tensors, meta=meta, **other)

    @staticmethod
    def join_entities(contexts: Sequence[Context]) -> Context:
        """All entities of several contexts of one kind, model and task, all with text vectors or
        all without, in their order; shots padded to the largest K. ValueError: contexts that do
        not go together, or an id given twice."""
        _require_alike(contexts)
        ids = [i for c in contexts for i in c.ids]
        if len(set(ids)) < len(ids):
            raise ValueError(f"an id stands in two of the contexts to be joined: {ids}")
        most = max(c.shots.shape[1] for c in contexts)

        def rows(parts: Sequence[Tensor]) -> Tensor:
            return torch.cat([pad_shots(x, most) for x in parts])

        metas = [c.meta for c in contexts if c.meta is not None]
        return replace(
            contexts[0],
            shots=rows([c.shots for c in contexts]),
            tensors={k: rows([c.tensors[k] for c in contexts]) for k in contexts[0].tensors},
            meta=torch.cat(metas) if metas else None,
            ids=ids,
            names=[n for c in contexts for n in c.names],
        )

    @staticmethod
    def join_shots(contexts: Sequence[Context]) -> Context:
        """The same entities with the shots of several contexts, (N, ΣK). ValueError: contexts of
        other entities, or that do not go together."""
        _require_alike(contexts, "ids")
        first, *others = contexts
        if not others:
            return first
        return replace(
            first,
            shots=torch.cat([c.shots for c in contexts], 1),
            tensors={k: torch.cat([c.tensors[k] for c in contexts], 1) for k in first.tensors},
        )

    def arrange(
        self,
        rows: Sequence[int],
        columns: Sequence[int],
        ids: Sequence[int],
        names: Sequence[str | None],
    ) -> Context:
        """Entities of one shot as the shots of others: entity i here becomes shot ``columns[i]`` of
        entity ``rows[i]`` of the result, whose ids and names are given."""
        size = len(ids), max(columns) + 1
        place = torch.as_tensor(rows), torch.as_tensor(columns)

        def placed(values: Tensor) -> Tensor:
            return values.new_zeros(*size, *values.shape[2:]).index_put(place, values[:, 0])

        meta = self.meta
        if meta is not None:
            meta = meta.new_zeros(size[0], meta.shape[1]).index_put(place[:1], meta)
        return replace(
            self,
            shots=placed(self.shots),
            tensors={k: placed(v) for k, v in self.tensors.items()},
            meta=meta,
            ids=list(ids),
            names=list(names),
        )

    def take(self, rows: Tensor | Sequence[int], shots: Tensor | None = None) -> Context:
        """Some of the entities, in the order of ``rows``, int64 (n,) or list; ``shots``: bool (N,
        K), those that remain (None: all), and some of each of these entities."""
        rows = torch.as_tensor(rows, dtype=torch.long, device=self.shots.device)
        context = self if shots is None else replace(self, shots=self.shots & shots)
        kept = rows.tolist()
        ids, names = [self.ids[i] for i in kept], [self.names[i] for i in kept]
        return context._changed(lambda x: x[rows], ids=ids, names=names)

    def drop(self, ids: Collection[int]) -> Context:
        """The context without the entities of these ids; ValueError: it has none of that id."""
        if unknown := set(ids) - set(self.ids):
            raise ValueError(f"no entities {sorted(unknown)}; the context has {self.ids}")
        return self.take([row for row, i in enumerate(self.ids) if i not in ids])

    def mean_over_shots(self, name: str) -> Tensor | None:
        """The mean of a tensor over the shots that exist, by their "weight" where there is such,
        (N, …); None where there is no such tensor."""
        values = self.tensors.get(name)
        if values is None:
            return None
        weight = self.tensors.get(WEIGHT, self.shots) * self.shots.to(values.dtype)
        return (values * weight[..., None]).sum(1) / weight.sum(1, keepdim=True)

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the context to a .safetensors file; kind "prototypes": a few KB per entity,
        "cells": 400 KB per entity and shot at most, "pixels": 4 bytes per pixel of the canvas and
        shot, of one that was tuned 24."""
        tensors, about = self.packed()
        # save_file would hide it from everyone else
        write_whole(path, save(tensors, metadata={"segic_d2.context": json.dumps(about)}))

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Its tensors on the CPU, and the rest as JSON can hold it, for a file."""
        about = {k: getattr(self, k) for k in _ABOUT}
        tensors = {"shots": self.shots, **self.tensors}
        if self.meta is not None:
            tensors["meta"] = self.meta
        return {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, about

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Context:
        """The context that was ``packed``. ValueError, KeyError, TypeError: it is none."""
        own = dict(tensors)
        shots, meta = own.pop("shots"), own.pop("meta", None)
        found = cls(shots=shots, tensors=own, meta=meta, **{"kind": PROTOTYPES, **about})
        if fault := _fault(found):
            raise ValueError(fault)
        return found

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Context:
        """Read a context from the file that ``save`` wrote. FileNotFoundError: no such file;
        ValueError: the file is not a context."""
        if not PathManager.isfile(str(path)):
            raise FileNotFoundError(f"context file not found: {path}")
        try:
            tensors = load_file(str(path))
            with safe_open(str(path), "pt") as file:
                about = json.loads((file.metadata() or {})["segic_d2.context"])
            return cls.unpacked(tensors, about)
        except Exception as e:
            reason = first_line(e)[:200]
            raise ValueError(f"{path} is not a context file of segic_d2: {reason}") from e


def pad_shots(values: Tensor, count: int) -> Tensor:
    """Values (N, K, …) of shots padded with zeros to ``count`` of them, (N, count, …)."""
    missing = values.new_zeros(len(values), count - values.shape[1], *values.shape[2:])
    return torch.cat([values, missing], 1)


def _fault(context: Context) -> str:
    """What keeps the content of a file from being a context; "": nothing."""
    c, entities = context, len(context.ids)
    dicts = isinstance(c.fingerprint, dict) and isinstance(c.about, dict)
    tasks = "semantic", "instance"
    if not dicts or not isinstance(c.kind, str) or c.task not in tasks:
        return f"its kind is {c.kind!r} and its task {c.task!r}"
    if any(type(i) is not int for i in c.ids) or len(set(c.ids)) < entities or not entities:
        return f"its ids are {c.ids!r}; they are distinct whole numbers, at least one"
    if len(c.names) != entities or any(not isinstance(n, str | None) for n in c.names):
        return f"its names are {c.names!r}, for {entities} entities"
    if c.shots.dtype != torch.bool or c.shots.dim() != 2 or len(c.shots) != entities:
        return f"its shots are {c.shots.dtype} {tuple(c.shots.shape)}, for {entities} entities"
    if not c.shots.any(1).all():
        return "an entity has no shot"
    metas = {} if c.meta is None else {"meta": c.meta[:, None].expand(-1, c.shots.shape[1], -1)}
    for name, values in {**c.tensors, **metas}.items():
        if values.dim() < 2 or values.shape[:2] != c.shots.shape:
            return f"its tensor {name} is {tuple(values.shape)}, its shots {tuple(c.shots.shape)}"
        if not torch.isfinite(values).all():
            return f"its tensor {name} holds NaN or infinity"
    return ""


def _require_alike(contexts: Sequence[Context], *fields: str) -> None:
    """Raise ValueError naming what keeps contexts from being joined."""
    for name in ("kind", "task", "fingerprint", *fields):
        found = [getattr(c, name) for c in contexts]
        if other := [value for value in found if value != found[0]]:
            raise ValueError(f"contexts of another {name}: {found[0]!r} and {other[0]!r}")
    if len({c.meta is None for c in contexts}) != 1:
        raise ValueError("contexts to be joined: none, or some with and some without text vectors")
    for k in contexts[0].tensors:
        own = [c.tensors[k] for c in contexts if k in c.tensors]
        if len(own) < len(contexts) or len({x.is_floating_point() for x in own}) > 1:
            raise ValueError(f"contexts to be joined: tensors {k!r} differ, as of tuned ones")
