"""Feature maps of a frozen backbone, kept in memory so that the same pixels are encoded once."""

import hashlib
from collections import OrderedDict


class FeatureMemory:
    """The most recently used feature maps, by image content.

    Where images come without random augmentation (evaluation, small data sets), targets and
    references recur; a frozen backbone maps the same pixels to the same features.

    Args:
        megabytes: bound on the memory that the maps take; 0 remembers nothing.
    """

    def __init__(self, megabytes=0):
        self.capacity = int(megabytes * 2**20)
        self.clear()

    def clear(self):
        self._maps, self._bytes, self._state = OrderedDict(), 0, None

    def use(self, state):
        """Forget everything if ``state``, which tells one set of weights from another, changed."""
        if state != self._state:
            self.clear()
            self._state = state

    @staticmethod
    def key(image):
        """Digest of an image tensor's shape, type and content."""
        return tuple(image.shape), image.dtype, hashlib.sha1(image.cpu().numpy().tobytes()).digest()

    def get(self, key):
        """The map (C, g, g) under a key, or None."""
        found = self._maps.get(key)
        if found is not None:
            self._maps.move_to_end(key)
        return found

    def put(self, key, feature):
        """Remember a map; the least recently used ones make room."""
        size = feature.numel() * feature.element_size()
        if size > self.capacity or key in self._maps:
            return
        while self._bytes + size > self.capacity:
            _, old = self._maps.popitem(last=False)
            self._bytes -= old.numel() * old.element_size()
        self._maps[key] = feature.clone()  # not a view that keeps its whole batch alive
        self._bytes += size
