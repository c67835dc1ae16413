"""Counts the bytes of tensors that are alive at once, operation by operation, on any device.

On the meta device nothing is computed, so the count costs nothing. Elsewhere it is the sum that an
allocator without waste would hold. What an operation allocates inside itself does not count.
"""

import weakref

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """A context in which new storages are counted until they die.

    Attributes:
        now: bytes of the tensors that operations made and that live.
        peak: the most of these so far.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = {self._storage(x) for x in tree_iter((args, kwargs)) if torch.is_tensor(x)}
        result = function(*args, **kwargs)
        for tensor in tree_iter(result):
            if not torch.is_tensor(tensor):
                continue
            storage = self._storage(tensor)
            if storage not in self._seen and storage not in given:
                self._seen.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._free, storage.nbytes())
        return result

    @staticmethod
    def _storage(tensor):
        return tensor.untyped_storage()

    def _free(self, size):
        self.now -= size


class FusedAttention(TorchFunctionMode):
    """A context in which attention on the meta device makes nothing but its result.

    Fused kernels do so on a GPU. On the meta device torch would write out the matrix of all pairs.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            query, _, value = args[:3]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return function(*args, **(kwargs or {}))


def tensor_bytes(tensors):
    """Bytes of parameters or buffers."""
    return sum(t.numel() * t.element_size() for t in tensors)
