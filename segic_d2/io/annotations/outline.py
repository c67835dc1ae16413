"""Masks → polygons along the edges of their pixels, which are rasterised to the same mask again."""

import cv2
import numpy as np
from scipy import ndimage

MANY = 100  # rings that are joined where they are nearest


def rings_of(mask: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outlines of a mask, bool (H, W), and those of its holes: closed, float64 (n, 2) each,
    x and y of the corners of pixels. Pixels that touch at a corner alone are apart."""
    padded = np.pad(mask, 1).astype(np.int8)
    down, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # the foreground is on the right hand of each step
    for (y, x), value in _some(down):
        a, b = (x, y), (x + 1, y)
        steps.setdefault(*((a, []) if value > 0 else (b, []))).append(b if value > 0 else a)
    for (y, x), value in _some(right):
        a, b = (x, y), (x, y + 1)
        steps.setdefault(*((b, []) if value > 0 else (a, []))).append(a if value > 0 else b)
    outer: list[np.ndarray] = []
    holes: list[np.ndarray] = []
    while steps:
        start = next(iter(steps))
        ring, at, before = [], start, None
        while True:
            ahead = steps[at]
            if len(ahead) == 2 and before is not None:  # two pixels touch here: stay at this one
                dx, dy = at[0] - before[0], at[1] - before[1]
                ahead.sort(key=lambda to: (to[0] - at[0], to[1] - at[1]) == (-dy, dx))  # noqa: B023
            to = ahead.pop()
            if not ahead:
                del steps[at]
            ring.append(at)
            before, at = at, to
            if at == start:
                break
        corners = _corners(np.array(ring, np.float64))
        (outer if _area(corners) > 0 else holes).append(corners)
    return outer, holes


def joined_rings(mask: np.ndarray, tolerance: float | None = None) -> list[np.ndarray]:
    """One ring for each part of a mask: a hole is joined to its outline by a line there and back,
    which encloses nothing. For formats whose polygons have no holes. ``tolerance``: px that the
    edge of the mask may lie away from its simplified ring; None: exact."""
    outer, holes = rings_of(mask)
    parts, _ = ndimage.label(mask)
    own: dict[int, list[np.ndarray]] = {}
    for ring in outer:
        x, y = _top(ring)  # of which the pixel is at its right, below
        own[int(parts[y, x])] = [ring]
    for hole in holes:
        x, y = _top(hole)  # the pixel above surrounds it
        own[int(parts[y - 1, x])].append(hole)
    return [_joined([_simpler(r, tolerance) for r in rings]) for rings in own.values()]


def joined(mask: np.ndarray, tolerance: float | None = None) -> np.ndarray:
    """A single ring for a whole mask, whose parts are joined likewise. For formats that have one
    polygon for a thing."""
    return _joined(joined_rings(mask, tolerance))


def _simpler(ring: np.ndarray, tolerance: float | None) -> np.ndarray:
    """Douglas and Peucker's polygon; the ring itself where less than a triangle were left."""
    if not tolerance:
        return ring
    found = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)[:, 0]
    return found.astype(np.float64) if len(found) > 2 else ring


def _joined(rings: list[np.ndarray]) -> np.ndarray:
    """One ring of several: from corners that are near, or, of very many, from one corner."""
    if len(rings) > MANY:
        start = rings[0][:1]
        return np.concatenate([a for ring in rings for a in (ring, ring[:1], start)])
    first, *rest = rings
    for ring in rest:
        first = _join(first, ring)
    return first


def _top(ring: np.ndarray) -> tuple[int, int]:
    """The left corner at the top of a ring."""
    x, y = ring[np.lexsort(ring.T)[0]]
    return int(x), int(y)


def _some(change: np.ndarray) -> list[tuple[list[int], int]]:
    places = np.argwhere(change)
    return list(zip(places.tolist(), change[tuple(places.T)].tolist(), strict=True))


def _corners(ring: np.ndarray) -> np.ndarray:
    """A ring without the points on its straight lines."""
    turns = (ring - np.roll(ring, 1, 0) != np.roll(ring, -1, 0) - ring).any(1)
    return ring[turns]


def _area(ring: np.ndarray) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _join(ring: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One ring around both, with a line there and back between the corners that are nearest."""
    step = max(1, len(other) // 64)
    apart = [((ring - corner) ** 2).sum(1) for corner in other[::step]]
    j = int(np.argmin([a.min() for a in apart]))
    i, j = int(apart[j].argmin()), j * step
    return np.concatenate([ring[: i + 1], other[j:], other[: j + 1], ring[i:]])
