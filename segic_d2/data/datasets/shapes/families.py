"""Outlines of the embedded dataset. A family of shapes draws a new member every time.

An outline is a list of ``(points, fill)``: float arrays (P, 2) of x, y, painted one after the
other. Fill 1 adds to the shape, fill 0 cuts a hole. ``outline`` scales the longer side of its box
to -1 … 1 and centres it on 0.
"""

import functools
import math

import numpy as np

from .textures import open_photograph


def _arc(radius, start=0.0, stop=2 * math.pi, n=48, center=(0.0, 0.0)):
    t = np.linspace(start, stop, n)
    return np.stack([center[0] + radius * np.cos(t), center[1] + radius * np.sin(t)], 1)


def _polar(radii):
    t = np.linspace(0, 2 * math.pi, len(radii), endpoint=False)
    return np.stack([radii * np.cos(t), radii * np.sin(t)], 1)


def _box(left, top, right, bottom):
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def _star(rng):
    return [(_polar(np.tile([1.0, rng.uniform(0.36, 0.5)], 5)), 1)]


def _ring(rng):
    return [(_arc(1), 1), (_arc(rng.uniform(0.45, 0.68)), 0)]


def _disc(rng):
    return [(_arc(1), 1)]


def _triangle(rng):
    return [(np.array([(-1, 0.8), (1, 0.8), (rng.uniform(-0.35, 0.35), -0.9)]), 1)]


def _cross(rng):
    w = rng.uniform(0.26, 0.38)
    return [(_box(-1, -w, 1, w), 1), (_box(-w, -1, w, 1), 1)]


def _crescent(rng):
    shift = rng.uniform(0.4, 0.6)
    return [(_arc(1), 1), (_arc(rng.uniform(0.82, 0.92), center=(shift, 0)), 0)]


def _arrow(rng):
    w, neck = rng.uniform(0.18, 0.3), rng.uniform(-0.1, 0.25)
    return [(_box(-1, -w, neck + 0.01, w), 1), (np.array([(neck, -0.75), (1, 0), (neck, 0.75)]), 1)]


def _gear(rng):
    teeth, root = int(rng.integers(7, 12)), rng.uniform(0.72, 0.82)
    radii = np.tile([root, root, 1.0, 1.0], teeth)
    return [(_polar(radii), 1), (_arc(rng.uniform(0.2, 0.35)), 0)]


def _slab(rng):
    h = rng.uniform(0.35, 0.65)
    return [(_box(-1, -h, 1, h), 1)]


def _arch(rng):
    inner, leg = rng.uniform(0.5, 0.68), rng.uniform(0.2, 0.8)
    over, under = _arc(1, math.pi, 2 * math.pi), _arc(inner, 2 * math.pi, math.pi)
    feet = [(1, leg), (inner, leg)], [(-inner, leg), (-1, leg)]
    return [(np.concatenate([over, feet[0], under, feet[1]]), 1)]


def _heart(rng):
    t, depth = np.linspace(0, 2 * math.pi, 64), rng.uniform(4, 6.5)
    y = -(13 * np.cos(t) - depth * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return [(np.stack([16 * np.sin(t) ** 3, y], 1), 1)]


@functools.lru_cache(maxsize=1)
def _horse_outline():
    from skimage.measure import approximate_polygon, find_contours

    dark = np.asarray(open_photograph("horse.png").convert("L")) < 128
    # padding closes the outlines; the longest is the animal, the others are holes or specks
    outlines = sorted(find_contours(np.pad(dark, 1).astype(float), 0.5), key=len)
    return approximate_polygon(outlines[-1], 0.7)[:, ::-1]


def _horse(rng):
    return [(_horse_outline() * (rng.choice([-1, 1]), 1.0), 1)]


def _flower(rng):
    petals, depth = int(rng.integers(5, 9)), rng.uniform(0.25, 0.4)
    t = np.linspace(0, 2 * math.pi, 16 * petals, endpoint=False)
    return [(_polar(1 - depth * (1 - np.abs(np.cos(petals * t / 2)))), 1)]


def _bolt(rng):
    k = rng.uniform(-0.08, 0.08)
    points = [(0.1, -1), (-0.6, 0.2 + k), (-0.12, 0.16 + k), (-0.25, 1), (0.62, -0.3 + k)]
    return [(np.array([*points, (0.15, -0.25 + k), (0.55, -1)]), 1)]


def _key(rng):
    hole, w = rng.uniform(0.16, 0.24), rng.uniform(0.17, 0.24)
    teeth = [_box(x, 0, x + 0.17, rng.uniform(0.42, 0.55)) for x in (0.45, 0.83)]
    parts = [_arc(0.42, center=(-0.58, 0)), _box(-0.3, -w, 1, w), *teeth]
    return [(p, 1) for p in parts] + [(_arc(hole, center=(-0.64, 0)), 0)]


def _fish(rng):
    fat, x = rng.uniform(0.38, 0.55), np.linspace(-1, 0.55, 24)
    half = fat * np.sqrt(np.clip(1 - ((x + 0.225) / 0.775) ** 2, 0, 1))
    body = np.concatenate([np.stack([x, -half], 1), np.stack([x, half], 1)[::-1]])
    tail = np.array([(0.3, 0), (1, -0.5), (0.8, 0), (1, 0.5)])
    return [(body, 1), (tail, 1), (_arc(0.07, center=(-0.65, -0.12), n=12), 0)]


_SHAPES = (_star, _ring, _disc, _triangle, _cross, _crescent, _arrow, _gear, _slab, _arch)
_SHAPES += (_heart, _horse, _flower, _bolt, _key, _fish)
FAMILIES = {shape.__name__[1:]: shape for shape in _SHAPES}


def outline(family: str, rng: np.random.Generator) -> list[tuple[np.ndarray, int]]:
    """A random member of a shape family: list of (points (P, 2) in [-1, 1], fill 0 or 1).
    ValueError: naming an unknown family."""
    if family not in FAMILIES:
        raise ValueError(f"unknown shape family {family!r}; known: {', '.join(FAMILIES)}")
    parts = FAMILIES[family](rng)
    points = np.concatenate([p for p, fill in parts if fill])
    low, high = points.min(0), points.max(0)
    return [((p - (low + high) / 2) * 2 / (high - low).max(), fill) for p, fill in parts]
