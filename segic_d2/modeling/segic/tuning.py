"""A context that is learned: what is found with it is compared with the truth, as it is found.

Where the head chooses regions these stay what they are, and the logits by which they are chosen,
means over regions of what reference cells and the decoder say, are what is compared: gradients
reach cells and prototypes through these means, and no other choice has to be made up for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...structures.context import Context
from ...structures.episode import Episode
from ...structures.features import Features
from ..protocol import Contexts, InContextModel
from .mask_head import InContextMaskHead
from .queries import Queries
from .readout import Readout
from .training import EpisodeLosses

VECTORS = ("prototypes",)  # of any length
MEANS = "unit_prototypes", "background", "cell_prototypes"  # of unit vectors
UNITS = ("cells",)


class ContextTuning(InContextModel):
    """Prototypes and cells of a context are learned, its texts and numbers are not."""

    sem_seg_head: InContextMaskHead
    criterion: EpisodeLosses
    readout: Readout
    cross_entity: bool

    def _checked(self, context: Contexts, number: int) -> list[Context]:
        raise NotImplementedError

    def tunable(self, context: Context) -> Context:
        """The same context in float32: cells of length 1, means of unit vectors not above it."""
        found = dict(context.tensors)
        for name in found.keys() & {*VECTORS, *MEANS, *UNITS}:
            own = found[name].detach().float()
            if name in MEANS:
                own = own / own.norm(dim=-1, keepdim=True).clamp(min=1)
            found[name] = F.normalize(own, dim=-1) if name in UNITS else own.clone()
        return replace(context, tensors=found)

    def context_losses(
        self, batched_inputs: Sequence[Episode], context: Context
    ) -> dict[str, Tensor]:
        """{"loss_mask", "loss_dice"} of the masks, see ``InContextModel``."""
        learned = {*VECTORS, *MEANS, *UNITS}
        own = {k: v if k in learned else v.detach() for k, v in context.tensors.items()}
        with torch.no_grad():
            features = self.encode_images(batched_inputs)
        contexts = self._checked(replace(context, tensors=own), len(batched_inputs))
        logits = self._found(features, contexts)
        return self.criterion.of_masks(batched_inputs, features, logits)

    def _found(self, features: Features, contexts: Sequence[Context]) -> Sequence[Tensor]:
        """Logits (N, r, r) over the canvas of B targets, by whatever part has the last word."""
        head, decoded = self.sem_seg_head, None
        if head.decodes:
            queries, crossing = Queries.from_contexts(contexts), bool(self.cross_entity)
            out = head(features.map, features.image_sizes, queries, crossing=crossing)
            if not head.chooses:
                return out.logits.float().split(queries.counts)
            decoded = self.readout.decoded(out, features, contexts, head.similarity)
        assert head.matcher is not None  # who does not decode
        return [logits for logits, _ in head.matcher(features, contexts, decoded)]
