"""Feature maps of a frozen backbone, kept in memory so that the same pixels are encoded once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable

import torch


class FeatureMemory:
    """The most recently used feature maps, by image content; 0 MB remember nothing.

    Where images come without random augmentation (evaluation, small data sets), targets and
    references recur; a frozen backbone maps the same pixels to the same features.
    """

    dtype = None  # features are kept as they are
    _state: Hashable

    def __init__(self, megabytes: float = 0) -> None:
        self.capacity = int(megabytes * 2**20)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._maps: OrderedDict[Hashable, torch.Tensor] = OrderedDict()
        self._bytes, self._state = 0, None

    def use(self, state: Hashable) -> None:
        """Forget everything if ``state``, which tells one set of weights from another, changed."""
        if state != self._state:
            self.clear()
            self._state = state

    @staticmethod
    def key(image: torch.Tensor) -> tuple[tuple[int, ...], torch.dtype, bytes]:
        """Digest of an image tensor's shape, type and content."""
        return tuple(image.shape), image.dtype, hashlib.sha1(image.cpu().numpy().tobytes()).digest()

    def get(self, key: Hashable) -> torch.Tensor | None:
        """The map (C, g, g) under a key, or None."""
        found = self._maps.get(key)
        if found is not None:
            self._maps.move_to_end(key)
        return found

    def put(self, key: Hashable, features: torch.Tensor) -> None:
        """Remember a map; the least recently used ones make room."""
        size = features.numel() * features.element_size()
        if size > self.capacity or key in self._maps:
            return
        while self._bytes + size > self.capacity:
            _, old = self._maps.popitem(last=False)
            self._bytes -= old.numel() * old.element_size()
        self._maps[key] = features.clone()  # not a view that keeps its whole batch alive
        self._bytes += size
