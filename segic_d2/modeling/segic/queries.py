"""The entities of a batch, flattened, as the head decodes them.

Shape shorthand: M entities of a batch, K shots, C feature channels, D text channels.
"""

from dataclasses import dataclass

import torch

from ...utils.devices import upload


@dataclass
class Queries:
    """The entities of a batch, flattened: what the head decodes in one pass.

    Attributes:
        image_index: int64 (M,), sorted, the target of each entity.
        counts: N of each target.
        vectors: float (M, C), for the propagated mask.
        prototypes: float (M, K, C); shots: bool (M, K).
        meta: float (M, D) or None.
        background: float (M, C), for the similarity to the references' background, or None.
    """

    image_index: torch.Tensor
    counts: list
    vectors: torch.Tensor
    prototypes: torch.Tensor
    shots: torch.Tensor
    meta: torch.Tensor | None
    background: torch.Tensor | None = None

    def __len__(self):
        return len(self.image_index)

    @classmethod
    def from_contexts(cls, contexts, released=False, eps=1e-8):
        """Flatten one context per target; shots are padded to the largest K."""
        counts = [len(c) for c in contexts]
        shots = max(c.shots.shape[1] for c in contexts)
        device = contexts[0].prototypes.device

        def padded(tensor):
            missing = shots - tensor.shape[1]
            return torch.cat([tensor, tensor.new_zeros(len(tensor), missing, *tensor.shape[2:])], 1)

        metas = [c.meta for c in contexts]
        if any(m is None for m in metas) and any(m is not None for m in metas):
            raise ValueError("some contexts of the batch carry text vectors and others do not")
        return cls(
            image_index=upload(
                [i for i, n in enumerate(counts) for _ in range(n)], device, torch.long
            ),
            counts=counts,
            vectors=torch.cat([c.mean_unit(released, eps) for c in contexts]),
            prototypes=torch.cat([padded(c.prototypes) for c in contexts]),
            shots=torch.cat([padded(c.shots) for c in contexts]),
            meta=None if metas[0] is None else torch.cat(metas),
            background=_joined([c.mean_background() for c in contexts]),
        )


def _joined(parts):
    return None if parts[0] is None else torch.cat(parts)
