"""Shapes that several tools have."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..rle import decode, encode
from .records import AnnotationSet, Size

CORNERS = 64  # of an ellipse


def ellipse(centre: tuple[float, float], radii: tuple[float, float], degrees: float) -> list[float]:
    """A polygon for an ellipse that is turned clockwise, flat x, y, x, y, …"""
    turned, ring = math.radians(degrees), []
    for i in range(CORNERS):
        turn = 2 * math.pi * i / CORNERS
        x, y = radii[0] * math.cos(turn), radii[1] * math.sin(turn)
        ring.append(centre[0] + x * math.cos(turned) - y * math.sin(turned))
        ring.append(centre[1] + x * math.sin(turned) + y * math.cos(turned))
    return ring


def joined_groups(
    found: AnnotationSet, groups: Mapping[Any, Sequence[tuple[Any, str]]], size: Size
) -> Iterator[tuple[str, Any, str]]:
    """Yield (label, segmentation, where) of the things that the parts of {(label, …): [(flat
    polygon or RLE, where)]} are; a mask among several parts that is none is a fault."""
    for (label, *_), parts in groups.items():
        ones, where = [one for one, _ in parts], parts[0][1]
        if len(ones) == 1 and isinstance(ones[0], dict):
            yield label, ones[0], where
        elif not any(isinstance(one, dict) for one in ones):
            yield label, ones, where
        else:
            try:
                masks = [decode(o if isinstance(o, dict) else [o], *size) for o in ones]
            except (ValueError, TypeError) as error:
                found.fault(f"{where} ({label}): {error}")
            else:
                yield label, encode(np.logical_or.reduce(masks)), where
