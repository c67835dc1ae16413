"""What is remembered of the objects of one video: their given masks for ever, and of recent frames
a bounded number of vectors, each object by itself.

========== ====================================================== ======================
kind       what is added to the K given shots                     written
========== ====================================================== ======================
first      nothing                                                never
fifo       the ``size`` latest shots                              every ``every`` frames
mean       one running mean of shots, which begins at the given   every frame
last       the last shot (released)                               every frame
clusters   ``size`` parts, by online k-means; the most alike one  every ``every`` frames
           counts in place of the mean
========== ====================================================== ======================

Shapes: N objects, K shots, P parts, C feature channels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ..config.keys import check_config
from .context import CELLS, COUNTS, PARTS, PIXELS, TOKEN, WEIGHT, Context

KINDS = ("first", "fifo", "mean", "last", "clusters")


@dataclass(frozen=True)
class MemoryOptions:
    """``TEST.VIDEO``: how objects of a video are remembered.

    Attributes:
        kind: one of ``KINDS``. size, every, rate: see there; ``rate`` of the running mean.
        gate: a shot is written where its score is at least this share of the object's own score.
        trust: below this self-IoU an object's memory stays at its given masks.
        given_weight: of the given shots in the map, beside recent ones.
        use: what recent shots are used for: "map", "tokens", or both.
    """

    kind: str = "first"
    size: int = 8
    every: int = 5
    rate: float = 0.1
    gate: float = 0.7
    trust: float = 0.5
    given_weight: float = 0.5
    use: tuple[str, ...] = ("map",)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> MemoryOptions:
        """The options of a config. ValueError: a value out of its range."""
        check_config(cfg, "TEST.VIDEO")
        v = cfg.TEST.VIDEO
        return cls(
            kind=v.MEMORY,
            size=v.MEMORY_SIZE,
            every=v.EVERY,
            gate=v.GATE,
            trust=v.TRUST,
            given_weight=v.GIVEN_WEIGHT,
            use=tuple(v.USE),
        )

    @property
    def parts(self) -> int:
        """P, of "clusters"; else 0."""
        return self.size if self.kind == "clusters" else 0


@dataclass
class Remembered:
    """One object: its ``given`` shots, its score and IoU where these were given, its recent shots
    with their scores, how many frames ago one was written, and its parts (P, C) with how many cells
    each stands for, (P,), those of the given frames alone first."""

    given: Context
    own_score: float
    self_iou: float
    recent: list[Context] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    since: int = 0
    given_parts: tuple[Tensor, Tensor] | None = None
    parts: tuple[Tensor, Tensor] | None = None

    def forget(self) -> None:
        """Drop all but what was given."""
        self.recent, self.scores, self.since, self.parts = [], [], 0, self.given_parts


class Memory:
    """The objects of a video by id."""

    def __init__(self, options: MemoryOptions | None = None) -> None:
        self.options = options or MemoryOptions()
        self._objects: dict[int, Remembered] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, id: int) -> Remembered:
        return self._objects[id]

    @property
    def ids(self) -> list[int]:
        """Ids of the objects, ascending."""
        return sorted(self._objects)

    @property
    def bytes(self) -> int:
        """What its tensors take."""
        return sum(x.numel() * x.element_size() for x in self.packed()[0].values())

    def give(
        self,
        context: Context,
        own_scores: Mapping[int, float],
        self_ious: Mapping[int, float],
        seen: Context | None = None,
    ) -> None:
        """Take the shots of given masks: of new objects, or more of known ones, which are
        corrected: their recent shots are dropped. ``own_scores`` and ``self_ious``, by id: the
        model's score of each in its own frame, and the IoU of its mask there. ``seen``: a context
        of the same objects with their "parts", for "clusters". ValueError: a kind of memory that
        averages vectors, for a context of cells or pixels."""
        if context.kind in (CELLS, PIXELS) and self.options.kind in ("mean", "clusters"):
            raise ValueError(
                f"TEST.VIDEO.MEMORY is {self.options.kind!r}, which averages vectors, and this "
                f"model remembers {context.kind}: choose 'first', 'fifo' or 'last'"
            )
        for row, i in enumerate(context.ids):
            shots = int(context.shots[row].nonzero().max()) + 1
            given, old = _columns(context.take([row]), shots), self._objects.get(i)
            parts = None if seen is None else _parts(seen, i)
            if old is not None:
                names = [given.names[0] or old.given.names[0]]
                given = Context.join_shots([replace(c, names=names) for c in (old.given, given)])
                if old.given_parts is not None and parts is not None:
                    parts = merge_parts(*old.given_parts, *parts)
            self._objects[i] = Remembered(
                given, own_scores[i], self_ious[i], given_parts=parts, parts=parts
            )

    def due(self, scores: Mapping[int, float]) -> list[int]:
        """Count one frame, and tell the ids, among those that were found in it with these scores,
        of which a shot is to be written."""
        kind, found = self.options.kind, []
        for i, one in self._objects.items():
            one.since += 1
            waits = kind in ("fifo", "clusters") and one.since < self.options.every
            frozen = kind == "first" or one.self_iou < self.options.trust
            enough = i in scores and scores[i] >= self.options.gate * one.own_score
            if enough and not waits and not frozen:
                found.append(i)
        return found

    def write(self, context: Context, scores: Mapping[int, float]) -> None:
        """Remember one shot of each object of a context, with its score; see ``due``."""
        for row, i in enumerate(context.ids):
            self._write(self._objects[i], context.take([row]), scores[i], _parts(context, i))

    def _write(
        self, one: Remembered, shot: Context, score: float, parts: tuple[Tensor, Tensor] | None
    ) -> None:
        one.since, kind = 0, self.options.kind
        if kind == "clusters" and parts is not None:
            one.parts = parts if one.parts is None else merge_parts(*one.parts, *parts)
        elif kind == "mean":
            old = one.recent[0] if one.recent else _mean_shot(one.given)
            one.recent, one.scores = [_blend(old, shot, self.options.rate)], [1.0]
        elif kind in ("fifo", "last"):
            kept = self.options.size if kind == "fifo" else 1
            one.recent, one.scores = [*one.recent, shot][-kept:], [*one.scores, score][-kept:]

    def read(self, ids: Collection[int] | None = None) -> Context:
        """The context of all objects, or of some, by ascending ids, with all their shots.
        ValueError: there are none."""
        wanted = [i for i in self.ids if ids is None or i in ids]
        if not wanted:
            raise ValueError("a memory of no objects has no context")
        objects = [self._objects[i] for i in wanted]
        weighed = any(one.recent for one in objects)
        read = Context.join_entities([self._read(one, weighed) for one in objects])
        if not any(one.parts for one in objects):
            return read
        first = torch.arange(read.shots.shape[1], device=read.shots.device) == 0
        parts = [one.parts for one in objects if one.parts is not None]
        if len(parts) < len(objects):
            raise ValueError("some objects have parts and others do not")
        tensors = dict(read.tensors)
        for name, values in zip((PARTS, COUNTS), zip(*parts, strict=True), strict=True):
            stacked = torch.stack(values)[:, None]
            tensors[name] = stacked * first.view(1, -1, *[1] * (stacked.dim() - 2)).to(stacked)
        return replace(read, tensors=tensors)

    def _read(self, one: Remembered, weighed: bool) -> Context:
        shots = Context.join_shots([one.given, *(_named(x, one.given) for x in one.recent)])
        if not weighed:
            return shots
        given, use = one.given.shots.float(), self.options.use
        total = sum(one.scores)
        share = self.options.given_weight if total > 0 and "map" in use else 1.0
        recent = given.new_tensor([(1 - share) * s / max(total, 1e-8) for s in one.scores])
        weight = torch.cat([given * (share / given.sum()), recent[None]], 1)
        token = torch.cat([given, torch.full_like(recent, float("tokens" in use))[None]], 1)
        return replace(shots, tensors={**shots.tensors, WEIGHT: weight, TOKEN: token})

    def forget_recent(self, ids: Iterable[int] | None = None) -> None:
        """Drop all but what was given of all objects, or of some: after a cut."""
        for i in self.ids if ids is None else ids:
            self._objects[i].forget()

    def remove(self, id: int) -> None:
        """Forget an object. ValueError: there is none of this id."""
        if id not in self._objects:
            raise ValueError(f"no object {id}; there are {self.ids}")
        del self._objects[id]

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and what JSON can hold, for a file; ``unpacked`` makes the memory of them."""
        tensors: dict[str, Tensor] = {}
        about: dict[str, Any] = {}
        for i, one in self._objects.items():
            own: dict[str, Any] = {"contexts": []}
            for n, context in enumerate([one.given, *one.recent]):
                found, told = context.packed()
                tensors |= {f"{i}/{n}/{name}": values for name, values in found.items()}
                own["contexts"].append(told)
            for key in ("given_parts", "parts"):
                for part, values in zip("vc", getattr(one, key) or (), strict=False):
                    tensors[f"{i}/{key}/{part}"] = values.cpu().clone()
            keys = ("own_score", "self_iou", "scores", "since")
            about[str(i)] = own | {k: getattr(one, k) for k in keys}
        return tensors, {"options": asdict(self.options), "objects": about}

    @classmethod
    def unpacked(
        cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any], device: torch.device | str
    ) -> Memory:
        """The memory that was ``packed``. KeyError, TypeError, ValueError: it is none."""
        options = dict(about["options"])
        memory = cls(MemoryOptions(**{**options, "use": tuple(options["use"])}))
        for key, told in about["objects"].items():
            contexts = [
                Context.unpacked(_under(tensors, f"{key}/{n}/"), one).to(device)
                for n, one in enumerate(told["contexts"])
            ]
            parts = {k: _under(tensors, f"{key}/{k}/") for k in ("given_parts", "parts")}
            pairs = {k: (p["v"].to(device), p["c"].to(device)) for k, p in parts.items() if p}
            memory._objects[int(key)] = Remembered(
                contexts[0],
                told["own_score"],
                told["self_iou"],
                contexts[1:],
                list(told["scores"]),
                told["since"],
                **pairs,
            )
        return memory


def merge_parts(
    centres: Tensor, counts: Tensor, more: Tensor, more_counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Online k-means: every one of more mean unit features (Q, C), which stand for (Q,) cells,
    joins the centre (P, C) that it is most like, one after the other, as a running mean; it becomes
    one itself where there are fewer than P."""
    centres, counts = centres.clone(), counts.clone()
    for vector, cells in zip(more, more_counts.tolist(), strict=True):
        if cells <= 0:
            continue
        free = (counts == 0).nonzero()
        if len(free):
            row = int(free[0])
        else:
            alike = centres @ vector / centres.norm(dim=1).clamp(min=1e-8)
            row = int(alike.argmax())
        counts[row] += cells
        centres[row] += (vector - centres[row]) * (cells / counts[row])
    return centres, counts


def _parts(context: Context, id: int) -> tuple[Tensor, Tensor] | None:
    if PARTS not in context.tensors:
        return None
    row = context.ids.index(id)
    return context.tensors[PARTS][row, 0], context.tensors[COUNTS][row, 0]


def _columns(context: Context, count: int) -> Context:
    """The first shots alone, without the parts."""
    tensors = {k: v[:, :count] for k, v in context.tensors.items() if k not in (PARTS, COUNTS)}
    return replace(context, shots=context.shots[:, :count], tensors=tensors)


def _named(shot: Context, given: Context) -> Context:
    """A shot with the names and tensors of what was given."""
    return replace(shot, tensors={k: shot.tensors[k] for k in given.tensors})


def _mean_shot(given: Context) -> Context:
    """One shot that is the mean of the given ones."""
    means = {k: given.mean_over_shots(k) for k in given.tensors}
    tensors = {k: v[:, None] for k, v in means.items() if v is not None}
    return replace(given, shots=given.shots[:, :1] | True, tensors=tensors)


def _blend(old: Context, new: Context, rate: float) -> Context:
    """The running mean of two shots."""
    tensors = {k: v + rate * (new.tensors[k] - v) for k, v in old.tensors.items()}
    return replace(old, tensors=tensors)


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
