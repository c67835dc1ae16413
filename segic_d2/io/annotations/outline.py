"""Masks → polygons along the edges of their pixels, which are rasterised to the same mask again."""

import numpy as np

Ring = list[tuple[float, float]]


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


def joined_rings(mask: np.ndarray) -> list[np.ndarray]:
    """One ring for each part of a mask: a hole is joined to its outline by a line there and back,
    which encloses nothing. For formats whose polygons have no holes."""
    outer, holes = rings_of(mask)
    outer.sort(key=_area)
    around = list(outer)
    for hole in holes:
        x, y = hole[
            np.lexsort(hole.T)[0]
        ]  # the left corner at its top: a pixel of its part is above
        row = next(i for i, ring in enumerate(around) if _inside(ring, x + 0.5, y - 0.5))
        outer[row] = _join(outer[row], hole)
    return outer


def joined(mask: np.ndarray) -> np.ndarray:
    """A single ring for a whole mask, whose parts are joined likewise. For formats that have one
    polygon for a thing."""
    first, *rest = joined_rings(mask)
    for ring in rest:
        first = _join(first, ring)
    return first


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


def _inside(ring: np.ndarray, x: float, y: float) -> bool:
    """Whether a ring, whose lines are upright or level, goes around the centre of a pixel."""
    (xs, ys), below = ring.T, np.roll(ring[:, 1], -1)
    crossed = (np.minimum(ys, below) < y) & (np.maximum(ys, below) > y) & (xs > x)
    return bool(crossed.sum() % 2)


def _join(ring: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One ring around both, with a line there and back between the corners that are nearest."""
    least, i, j = np.inf, 0, 0
    for k, corner in enumerate(other[:: max(1, len(other) // 64)]):
        apart = ((ring - corner) ** 2).sum(1)
        if apart.min() < least:
            step = max(1, len(other) // 64)
            least, i, j = float(apart.min()), int(apart.argmin()), k * step
    return np.concatenate([ring[: i + 1], other[j:], other[: j + 1], ring[i:]])
