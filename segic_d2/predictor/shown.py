"""What people are shown of what a model says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..structures.segmentation import Segmentation


class Shown(NamedTuple):
    """What is shown of a target, see ``predict``."""

    propagated: bool
    instances: bool
    compete: bool
    least: float
    doubt: bool

    def of(self, found: Segmentation) -> Segmentation:
        """What is shown of a segmentation."""
        if self.compete:
            return found.compete(self.least)
        sure = (~(found.scores < self.least)).nonzero()[:, 0].tolist()  # NaN is refused later
        return found.take(sure) if self.least else found


def with_pixels(found: Segmentation, numbered: bool) -> Segmentation:
    """What has pixels; ``numbered``: ids count it from 1."""
    if numbered:
        found.classes = found.ids if found.classes is None else found.classes
    some = found.take(np.flatnonzero(found.areas).tolist())
    if numbered:
        some.ids = list(range(1, len(some) + 1))
    return some
