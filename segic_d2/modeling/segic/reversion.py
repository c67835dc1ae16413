"""Context reversion: what was predicted becomes the reference, and the references are segmented.

After an episode was decoded, its predicted masks are binarised and held to be reference masks of
the target, and each of its references becomes a target in turn, supervised by its own masks. The
result is a list of episodes like any other, but for their features, which were computed before: the
backbone sees nothing twice. All of them are decoded in one batched pass.

With several shots (``MODEL.SEGIC.REVERSION.CONTEXT``) every reference of an episode is a target of
its own, of the entities that it shows; the context of each entity is

- "only": the prediction, the one shot whatever the number of references was;
- "join": the prediction and every other reference that shows the entity, hence as many shots as in
  the forward direction. The reference that is being segmented is never its own shot.

An entity whose prediction is empty has no reversed loss, nor has one that the target does not show,
for whatever was found there is no example of it. By the released rules it is reversed all the same,
and where nothing was predicted with an all-zero prototype.

Shapes: B episodes, N entities, g grid side (cells).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...structures.episode import Episode, Reference
from ...structures.frame import Frame
from .context_encoder import Shot

# odd, also in the low half that torch's generators use, so that derived seeds are distinct, and far
# from the seeds that people choose
_STEP = 0x9E3779B97F4A7C15
DRAW, IMAGE = 1, 2  # what is derived from an episode's seed: its own draw, images 0, 1, …


def derived_seed(seed: int, number: int) -> int:
    """The n-th seed, n ≥ 1, below 2**63, that an episode's own seed decides."""
    return (seed + number * _STEP) % 2**63


@dataclass
class Reversed:
    """One reference in the role of the target: an episode without references, the row of its target
    among the images of the step (B targets, then all references), and the shots that stand for its
    references, with the rows of their images."""

    episode: Episode
    image: int
    shots: list[Shot]
    sources: list[int]


@dataclass
class Reversion:
    """Turns episodes round, each with a probability; ``context``: "only" or "join", see the head of
    this file. As released, empty and absent entities are reversed, too (``keep_empty``), and what
    was predicted in the padding counts (``in_padding``)."""

    prob: float = 1.0
    context: str = "only"
    keep_empty: bool = False
    in_padding: bool = False

    @classmethod
    def from_config(cls, cfg: CfgNode, keep_empty: bool, in_padding: bool) -> Reversion:
        options = cfg.MODEL.SEGIC.REVERSION
        return cls(options.PROB, options.CONTEXT, keep_empty, in_padding)

    def drawn(self, episodes: Sequence[Episode]) -> list[bool]:
        """Which episodes are reversed: B bools, each drawn from the episode's own seed."""
        draws = (
            torch.rand((), generator=torch.Generator().manual_seed(derived_seed(x["seed"], DRAW)))
            for x in episodes
        )
        return [bool(draw < self.prob) for draw in draws]

    @torch.no_grad()
    def reverse(
        self,
        episodes: Sequence[Episode],
        drawn: Sequence[bool],
        logits: Sequence[Tensor],
        frames: Sequence[Frame],
        weigh: Callable[[Tensor], Tensor],
    ) -> list[Reversed]:
        """The episodes with the roles of target and references exchanged: one ``Reversed`` per
        reference that shows an entity with a reversed loss. Logits (N, 4g, 4g) and frames are of
        the B targets; ``weigh`` gives weights (N, g, g) of the grid cells under masks (N, h, w)."""
        found, first = [], len(episodes)
        for number, (episode, chosen) in enumerate(zip(episodes, drawn, strict=True)):
            if chosen:
                frame = frames[number]
                size = (frame.canvas, frame.canvas) if self.in_padding else frame.content
                masks = replace(frame, content=size, size=size).masks(logits[number].float())
                kept = self._kept(episode, weigh(masks.float()))
                found += self._turn(episode, number, first, masks, kept)
            first += len(episode["references"])
        return found

    def _kept(self, episode: Episode, weights: Tensor) -> dict[int, int]:
        """{entity id: row} of the entities with a reversed loss."""
        rows = {e["id"]: row for row, e in enumerate(episode["entities"])}
        if self.keep_empty:
            return rows
        shown = episode["masks"].flatten(1).any(1).tolist()
        predicted = (weights.flatten(1).sum(1) > 0).tolist()
        return {i: row for i, row in rows.items() if shown[row] and predicted[row]}

    def _turn(
        self, episode: Episode, number: int, first: int, masks: Tensor, kept: dict[int, int]
    ) -> list[Reversed]:
        """The reversed episodes of one episode; ``first``: row of its first reference."""
        found = []
        for j, reference in enumerate(episode["references"]):
            ids, truth = _united(*_entities(reference, kept))
            if not ids:
                continue
            predicted = masks[[kept[i] for i in ids]]
            shots, sources = [Shot(predicted, ids, keep_empty=True)], [number]
            for k, other in enumerate(episode["references"]):
                if self.context == "join" and k != j:
                    shared, of_shared = _entities(other, ids)
                    if shared:
                        shots.append(Shot(of_shared, shared, self.keep_empty))
                        sources.append(first + k)
            turned: Episode = {
                "masks": truth,
                "task": episode["task"],
                "seed": derived_seed(episode["seed"], IMAGE + j),
                "entities": [
                    # with the name that the text of the reversed half was drawn
                    {**entity, "name": entity.get("reversed_name", entity["name"])}
                    for entity in (episode["entities"][kept[i]] for i in ids)
                ],
            }
            if reference.get("ignore") is not None:
                turned["ignore"] = reference["ignore"]
            found.append(Reversed(turned, first + j, shots, sources))
        return found


def _entities(reference: Reference, wanted: Collection[int]) -> tuple[list[int], Tensor]:
    """The wanted entities among those of a reference: ids, and their masks (n, h, w)."""
    rows = [row for row, i in enumerate(reference["entity_ids"]) if int(i) in wanted]
    return [int(reference["entity_ids"][row]) for row in rows], reference["masks"][rows]


def _united(ids: list[int], masks: Tensor) -> tuple[list[int], Tensor]:
    """Distinct ids, and where any of the soft masks (n, h, w) of each is at least one half."""
    masks = masks >= 0.5
    distinct = list(dict.fromkeys(ids))
    if len(distinct) < len(ids):
        masks = torch.stack([masks[[i == one for i in ids]].any(0) for one in distinct])
    return distinct, masks
