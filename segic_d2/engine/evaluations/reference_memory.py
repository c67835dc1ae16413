"""Test episodes whose references come again, each encoded once."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...modeling.protocol import InContextModel
from ...structures.context import Context
from ...structures.episode import Episode, Reference

CAPACITY = 2 << 30  # bytes; a context of one shot takes about 10 KB, of cells 400 KB


class RememberedReferences(nn.Module):
    """Remembers the contexts of the last references, up to ``capacity`` bytes and always the last
    one, each encoded alone, so that they depend neither on the batch nor on the process that meets
    them first."""

    def __init__(self, model: InContextModel, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.model, self.capacity = model, capacity
        self._known: OrderedDict[Any, Context] = OrderedDict()
        self._bytes = 0

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Episode]) -> list[Any]:
        """Masks of episodes of one entity, whose references have a ``key``."""
        contexts = [self._context(x) for x in batched_inputs]
        return self.model.inference(batched_inputs, contexts, ("masks",))

    def _context(self, episode: Episode) -> Context:
        names = {e["id"]: e["name"] for e in episode["entities"]}
        return Context.join_shots([self._shot(r, names) for r in episode["references"]])

    def _shot(self, reference: Reference, names: Mapping[int, str | None]) -> Context:
        key = reference["key"]
        if key in self._known:
            self._known.move_to_end(key)
        else:
            self._known[key] = self.model.encode_context([reference], names)
            self._bytes += self._known[key].bytes
            while self._bytes > self.capacity and len(self._known) > 1:
                self._bytes -= self._known.popitem(last=False)[1].bytes
        return self._known[key]
