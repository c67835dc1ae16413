"""Encodes each reference of test episodes once, however often it comes."""

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

CAPACITY = 20_000  # references; a context of one shot takes about 10 KB


class RememberedReferences(nn.Module):
    """A model for test episodes that remembers the context of each reference.

    References are encoded one at a time. So a remembered context depends neither on the batch nor
    on the process that meets the reference first.

    Args:
        model: ``SegIC``.
        capacity: the number of references that are remembered; the least recently used leave.
    """

    def __init__(self, model, capacity=CAPACITY):
        super().__init__()
        self.model, self.capacity = model, capacity
        self._known = OrderedDict()

    @torch.no_grad()
    def forward(self, batched_inputs):
        """Masks of episodes of one entity (see ``SegIC``); their references have a ``key``."""
        contexts = [self._context(x) for x in batched_inputs]
        return self.model.inference(batched_inputs, contexts, ("masks",))

    def _context(self, episode):
        names = {e["id"]: e["name"] for e in episode["entities"]}
        shots = [self._shot(reference, names) for reference in episode["references"]]
        return join_shots(shots)

    def _shot(self, reference, names):
        key = reference["key"]
        if key in self._known:
            self._known.move_to_end(key)
        else:
            self._known[key] = self.model.encode_context([reference], names)
            if len(self._known) > self.capacity:
                self._known.popitem(last=False)
        return self._known[key]


def join_shots(contexts):
    """Join contexts of the same N entities, with some shots each, into one with all ΣK shots."""
    if len(contexts) == 1:
        return contexts[0]
    tensors = [c.shot_tensors() for c in contexts]
    joined = {name: torch.cat([t[name] for t in tensors], dim=1) for name in tensors[0]}
    return replace(contexts[0], **joined)
