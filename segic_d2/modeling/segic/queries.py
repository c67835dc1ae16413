"""The entities of a batch, flattened, as the head decodes them.

Shapes: M entities of a batch, K shots, v vectors per entity, P parts, C feature channels, D text
channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...structures.context import COUNTS, PARTS, TOKEN, Context, pad_shots
from ...utils.devices import upload


@dataclass
class Queries:
    """The entities of a batch, flattened: what the head decodes in one pass.

    Attributes:
        image_index: int64 (M,), sorted, the target of each entity. counts: N of each target.
        vectors: float (M, v, C), for the similarity to the entity and, where it is on, to the
            references' background.
        prototypes: float (M, K, C); shots: bool (M, K), the tokens. meta: float (M, D) or None.
        parts: float (M, P, C), the most alike of which counts in place of the entity's vector, and
            bool (M, P), which exist; or None.
    """

    image_index: Tensor
    counts: list[int]
    vectors: Tensor
    prototypes: Tensor
    shots: Tensor
    meta: Tensor | None
    parts: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.image_index)

    @classmethod
    def from_contexts(cls, contexts: Sequence[Context]) -> Queries:
        """Flatten one context of prototypes per target; shots are padded to the largest K.
        ValueError: some contexts carry text vectors and others do not."""
        shots, device = max(c.shots.shape[1] for c in contexts), contexts[0].shots.device
        counts = [len(c) for c in contexts]
        index = [i for i, n in enumerate(counts) for _ in range(n)]
        metas = [c.meta for c in contexts if c.meta is not None]
        if metas and len(metas) < len(contexts):
            raise ValueError("some contexts of the batch carry text vectors and others do not")
        kinds = "unit_prototypes", "background"
        means = [[c.mean_over_shots(k) for k in kinds] for c in contexts]
        vectors = [torch.stack([x for x in pair if x is not None], 1) for pair in means]
        tokens = [c.shots & (c.tensors.get(TOKEN, c.shots) > 0) for c in contexts]
        return cls(
            image_index=upload(index, device, torch.long),
            counts=counts,
            vectors=torch.cat(vectors),
            prototypes=torch.cat([pad_shots(c.tensors["prototypes"], shots) for c in contexts]),
            shots=torch.cat([pad_shots(x, shots) for x in tokens]),
            meta=torch.cat(metas) if metas else None,
            parts=_parts(contexts),
        )


def _parts(contexts: Sequence[Context]) -> tuple[Tensor, Tensor] | None:
    """The parts of all entities, which stand at the first shot. ValueError: some contexts have
    none."""
    if not any(PARTS in c.tensors for c in contexts):
        return None
    if not all(PARTS in c.tensors for c in contexts):
        raise ValueError("some contexts of the batch have parts and others do not")
    parts, counts = (torch.cat([c.tensors[k][:, 0] for c in contexts]) for k in (PARTS, COUNTS))
    return parts, counts > 0
