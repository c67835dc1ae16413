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

An entity whose prediction is empty (``REVERSION.EMPTY``) has no reversed loss ("skip"), nor has one
that the target does not show, for whatever was found there is no example of it; or it is reversed
all the same, and where nothing was predicted with an all-zero prototype ("zero", released).

Shape shorthand: B episodes, N entities, g grid side (cells).
"""

from dataclasses import dataclass

import torch

from ...structures.frame import masks_in_image

# odd, also in the low half that torch's generators use, so that derived seeds are distinct, and far
# from the seeds that people choose
_STEP = 0x9E3779B97F4A7C15
DRAW, IMAGE = 1, 2  # what is derived from an episode's seed: its own draw, images 0, 1, …


def derived_seed(seed, number):
    """The n-th seed, n ≥ 1, below 2**63, that an episode's own seed decides."""
    return (seed + number * _STEP) % 2**63


@dataclass
class Reversed:
    """One reference in the role of the target.

    Attributes:
        episode: the episode, see ``segic_d2.data``; its references have no pixels.
        image: row of its target among the images of the step (B targets, then all references).
        sources: rows of its references there, in their order.
    """

    episode: dict
    image: int
    sources: list


@dataclass
class Reversion:
    """Turns episodes round.

    Attributes:
        prob: probability per episode, drawn from its seed.
        empty: "skip" or "zero". context: "only" or "join". See the head of this file.
        in_padding: True (released): what was predicted in the padding counts.

    Raises:
        ValueError: a value out of its range; the key is named.
    """

    prob: float = 1.0
    empty: str = "skip"
    context: str = "only"
    in_padding: bool = False

    def __post_init__(self):
        allowed = (("EMPTY", self.empty, ("skip", "zero")), ("CONTEXT", self.context, _CONTEXTS))
        for key, value, values in allowed:
            if value not in values:
                raise ValueError(
                    f"MODEL.SEGIC.REVERSION.{key} is {value!r}; it must be one of {values}"
                )
        if not 0 <= self.prob <= 1:
            raise ValueError(f"MODEL.SEGIC.REVERSION.PROB is {self.prob}; it must be in [0, 1]")

    def drawn(self, episodes):
        """Which episodes are reversed: B bools, each drawn from the episode's own seed."""
        draws = (
            torch.rand((), generator=torch.Generator().manual_seed(derived_seed(x["seed"], DRAW)))
            for x in episodes
        )
        return [bool(draw < self.prob) for draw in draws]

    @torch.no_grad()
    def reverse(self, episodes, drawn, logits, image_sizes, canvas, weigh):
        """The episodes with the roles of target and references exchanged.

        Args:
            episodes: B training episodes; drawn: B bools, which of them are reversed.
            logits: B float (N, 4g, 4g), their predictions; image_sizes: B (h, w) of the targets.
            canvas: S, px.
            weigh: function of masks (N, h, w) → the weights (N, g, g) of the grid cells in pooling.

        Returns:
            list of ``Reversed``, one per reference that shows an entity with a reversed loss.
        """
        found, first = [], len(episodes)
        for number, (episode, chosen) in enumerate(zip(episodes, drawn, strict=True)):
            if chosen:
                size = (canvas, canvas) if self.in_padding else image_sizes[number]
                masks = masks_in_image(logits[number].float(), canvas, size, *size)
                kept = self._kept(episode, weigh(masks.float()))
                found += self._turn(episode, number, first, masks, kept)
            first += len(episode["references"])
        return found

    def _kept(self, episode, weights):
        """{entity id: row} of the entities with a reversed loss."""
        rows = {e["id"]: row for row, e in enumerate(episode["entities"])}
        if self.empty == "zero":
            return rows
        shown = episode["masks"].flatten(1).any(1).tolist()
        predicted = (weights.flatten(1).sum(1) > 0).tolist()
        return {i: row for i, row in rows.items() if shown[row] and predicted[row]}

    def _turn(self, episode, number, first, masks, kept):
        """The reversed episodes of one episode; ``first``: row of its first reference."""
        found = []
        for j, reference in enumerate(episode["references"]):
            ids, truth = _united(*_entities(reference, kept))
            if not ids:
                continue
            predicted = masks[[kept[i] for i in ids]]
            shots, sources = [_shot(predicted, ids, empty_mask="zero")], [number]
            for k, other in enumerate(episode["references"]):
                if self.context == "join" and k != j:
                    shared, of_shared = _entities(other, ids)
                    if shared:
                        shots.append(_shot(of_shared, shared))
                        sources.append(first + k)
            turned = {
                "masks": truth,
                "ignore": reference.get("ignore"),
                "task": episode["task"],
                "seed": derived_seed(episode["seed"], IMAGE + j),
                "entities": [_renamed(episode["entities"][kept[i]]) for i in ids],
                "references": shots,
            }
            found.append(Reversed(turned, first + j, sources))
        return found


_CONTEXTS = ("only", "join")


def _shot(masks, ids, **options):
    """A reference without pixels, of which only the size is read."""
    return {"image": masks[:1].expand(3, -1, -1), "masks": masks, "entity_ids": ids, **options}


def _entities(reference, wanted):
    """The wanted entities among those of a reference: ids, and their masks (n, h, w)."""
    rows = [row for row, i in enumerate(reference["entity_ids"]) if int(i) in wanted]
    return [int(reference["entity_ids"][row]) for row in rows], reference["masks"][rows]


def _united(ids, masks):
    """Distinct ids, and where any of the soft masks (n, h, w) of each is at least one half."""
    masks = masks >= 0.5
    distinct = list(dict.fromkeys(ids))
    if len(distinct) < len(ids):
        masks = torch.stack([masks[[i == one for i in ids]].any(0) for one in distinct])
    return distinct, masks


def _renamed(entity):
    """An entity with the name that the text of the reversed half was drawn."""
    return {**entity, "name": entity.get("reversed_name", entity["name"])}
