"""Renders a scene of the composites: a background, things from back to front, one camera.

A pixel belongs to the front-most thing that covers at least half of it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from composites.paint import dressed, shadow, warped

MIN_AREA = 40  # px, smallest visible part
MIN_SHARE = 0.2  # smallest visible part, of the whole thing, frame or not
TRIES = 10


@dataclass
class Scene:
    """image uint8 (H, W, 3) RGB; owner int16 (H, W), 0 or 1 + index into things; things."""

    image: np.ndarray
    owner: np.ndarray
    things: list
    kind: str


def _crop(photograph, size, rng, least=0.35):
    """A random cut of a photograph at a size (width, height), float32 (H, W, 3) in 0…1."""
    height, width = photograph.shape[:2]
    scale = min(width / size[0], height / size[1]) * rng.uniform(least, 1.0)
    w, h = max(int(size[0] * scale), 8), max(int(size[1] * scale), 8)
    x, y = rng.integers(max(width - w, 0) + 1), rng.integers(max(height - h, 0) + 1)
    cut = photograph[y : y + h, x : x + w]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    mode = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(cut), size, interpolation=mode).astype(np.float32) / 255


def background(photographs, size, rng):
    """Make a background, float32 (H, W, 3) in 0…1.

    It is a cut of a photograph, often out of focus; or a surface (a small cut, mirrored to and
    fro); or a wall of one photograph above a floor of another, seen in perspective.

    Args:
        photographs: list of uint8 (h, w, 3).
        size: (width, height) px.
    """
    draw = rng.random()

    def one():
        return photographs[int(rng.integers(len(photographs)))]

    if draw < 0.5:
        picture = _crop(one(), size, rng)
    elif draw < 0.7:
        picture = _surface(one(), size, rng)
    else:
        picture = _room(_crop(one(), size, rng), _surface(one(), size, rng), size, rng)
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.5, 6))
    if rng.random() < 0.3:  # a plain wall or cloth has little contrast
        mean = picture.mean((0, 1))
        tint = np.clip(mean.mean() + rng.normal(0, 0.2) + rng.normal(0, 0.06, 3), 0.05, 0.95)
        picture = tint + (picture - mean) * rng.uniform(0.1, 0.5)
    if rng.random() < 0.3:  # other colours
        picture = picture @ (np.eye(3) + rng.normal(0, 0.08, (3, 3)))
    return np.clip(picture, 0, 1).astype(np.float32)


def _surface(photograph, size, rng):
    """A small cut repeated with mirrored seams, so that it fills the frame without a horizon."""
    small = tuple(max(int(v * rng.uniform(0.3, 0.8)), 16) for v in size)
    cut = _crop(photograph, small, rng, least=0.1)
    pad = [0, size[1] - cut.shape[0], 0, size[0] - cut.shape[1]]
    return cv2.copyMakeBorder(cut, *[max(p, 0) for p in pad], cv2.BORDER_REFLECT)[
        : size[1], : size[0]
    ]


def _room(wall, floor, size, rng):
    width, height = size
    horizon = int(height * rng.uniform(0.25, 0.65))
    reach = rng.uniform(0.1, 0.6) * width
    source = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    target = np.float32([[0, horizon], [width, horizon], [width + reach, height], [-reach, height]])
    matrix = cv2.getPerspectiveTransform(source, target)
    laid = cv2.warpPerspective(floor, matrix, size, borderMode=cv2.BORDER_REFLECT)
    picture = cv2.GaussianBlur(wall, (0, 0), rng.uniform(0.3, 5))
    picture[horizon:] = laid[horizon:]
    return picture


def _spot(thing, placed, cut, shape, kind, rng):
    """Draw the top left corner of a cut in the frame."""
    height, width = shape
    h, w = cut.shape[:2]
    if thing.near is not None and thing.near in placed:
        x, y, reach = placed[thing.near]
        spread = 0.55 * (reach + max(h, w)) / 2
        x, y = x + rng.normal(0, spread), y + rng.normal(0, spread * 0.7)
    else:
        # large things around the middle, small ones anywhere
        free = np.clip([width - 0.6 * w, height - 0.6 * h], [0.35 * width, 0.35 * height], None)
        x, y = (np.array([width, height]) - free) / 2 + free * rng.random(2)
    return round(y - h / 2), round(x - w / 2)


class _Placed:
    """A thing with its cut and window; `whole` counts its pixels, frame or not."""

    def __init__(self, thing, cut, top, left, shape, least=0.0):
        height, width = shape
        h, w = cut.shape[:2]
        self.thing, self.whole = thing, int((cut[..., 3] >= 0.5).sum())
        self.least = max(MIN_AREA, MIN_SHARE * self.whole, least * height * width)
        t, b, lft, r = max(-top, 0), min(h, height - top), max(-left, 0), min(w, width - left)
        inside = t < b and lft < r
        self.cut = cut[t:b, lft:r] if inside else cut[:0, :0]
        self.window = np.s_[top + t : top + b, left + lft : left + r] if inside else np.s_[:0, :0]
        self.mask = self.cut[..., 3] >= 0.5

    def enough(self, pixels):
        return pixels >= self.least


def lay_out(things, views, shape, kind, rng, least=0.0):
    """Place things, back to front. A thing that finds no place is left out.

    Args:
        things: list of ``Thing``. The first one must be placed.
        views: function (object, rng) → uint8 (h, w, 4).
        shape: (H, W).
        least: smallest visible part of a thing, of the frame.

    Returns:
        (list of placed things, owner int16 (H, W)), or None if the first thing found no place, or
        none of the others did.
    """
    order = sorted(range(len(things)), key=lambda i: -things[i].scale * rng.uniform(0.5, 2.0))
    owner, placed, spots = np.zeros(shape, np.int16), [], {}
    visible, found = np.zeros(len(things) + 1, int), set()
    for index in order:
        thing = things[index]
        view = views(thing.item, rng)
        for _ in range(TRIES):
            cut = warped(view, thing.scale * min(shape), rng)
            top, left = _spot(thing, spots, cut, shape, kind, rng)
            p = _Placed(thing, cut, top, left, shape, least)
            lost = np.bincount(owner[p.window][p.mask], minlength=len(visible))
            left_over = visible - lost
            number = len(placed) + 1
            if p.enough(p.mask.sum()) and all(
                q.enough(left_over[j]) for j, q in enumerate(placed, 1)
            ):
                owner[p.window][p.mask] = number
                visible = left_over
                visible[number] = p.mask.sum()
                placed.append(p)
                found.add(index)
                spots[index] = left + cut.shape[1] / 2, top + cut.shape[0] / 2, max(cut.shape[:2])
                break
    if 0 not in found or len(placed) < 2:
        return None
    return placed, owner


def render_scene(plan, photographs, views, rng, least=0.0):
    """Render a ``Scene``. Its longer side has 448 to 512 px.

    Args:
        plan: function (rng) → (kind, list of ``Thing``), the first of which must be there.
        photographs: function (set of categories) → list of backgrounds uint8 (h, w, 3) that show
            none of them.
        views: function (object, rng) → uint8 (h, w, 4), one of its views.
        rng: numpy ``Generator``; the scene depends on it alone.
        least: smallest visible part of a thing, of the frame.
    """
    long = int(rng.integers(448, 513))
    short = int(long * rng.uniform(0.66, 1.0))
    shape = (short, long) if rng.random() < 0.75 else (long, short)
    found = None
    while found is None:  # a crowded plan is replaced
        kind, things = plan(rng)
        found = lay_out(things, views, shape, kind, rng, least)
        if found and least and len({p.thing.item.category for p in found[0]}) < 2:
            found = None  # of the other kinds none found a place
    placed, owner = found
    shown = {p.thing.item.category for p in placed}
    canvas = background(photographs(shown), shape[::-1], rng)
    shadows = rng.random() < 0.7
    for p in placed:
        _paint(p, canvas, shadows, rng)
    return Scene(_photographed(canvas, rng), owner, [p.thing for p in placed], kind)


def _paint(p, canvas, shadows, rng):
    region = canvas[p.window]
    cut = dressed(p.cut, region.mean((0, 1)), rng)
    if shadows and rng.random() < 0.8:
        _darken(p, canvas, rng)
    region *= 1 - cut[..., 3:]
    region += cut[..., :3]


def _darken(p, canvas, rng):
    """Paint a thing's shadow, which reaches farther than its window."""
    length = max(p.cut.shape[:2])
    reach = int(0.3 * length) + 8
    inner, outer = [], []
    for part, end in zip(p.window, canvas.shape[:2], strict=True):
        start, stop = max(part.start - reach, 0), min(part.stop + reach, end)
        outer.append(slice(start, stop))
        inner.append(slice(part.start - start, part.stop - start))
    region = canvas[tuple(outer)]
    alpha = np.zeros(region.shape[:2], np.float32)
    alpha[tuple(inner)] = p.cut[..., 3]
    region *= 1 - np.clip(shadow(alpha, length, rng), 0, 0.8)[..., None]


def _photographed(canvas, rng):
    """Give the whole frame the light, blur and noise of one camera: uint8 (H, W, 3)."""
    canvas = np.clip(canvas, 0, 1) ** np.exp(rng.normal(0, 0.18))
    canvas = canvas * np.exp(rng.normal(0, 0.12)) * (1 + rng.normal(0, 0.03, 3))
    if rng.random() < 0.4:  # light from one side, darker corners
        height, width = canvas.shape[:2]
        rows, columns = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
        slope, dark = rng.uniform(-0.2, 0.2, 2), rng.uniform(0, 0.25)
        light = 1 + slope[0] * rows + slope[1] * columns - dark * (rows**2 + columns**2) / 2
        canvas = canvas * light[..., None]
    canvas = canvas.astype(np.float32)
    if rng.random() < 0.35:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.6))
    noise = rng.uniform(0, 0.03) if rng.random() < 0.6 else 0.003
    canvas = canvas + noise * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.clip(np.rint(canvas * 255), 0, 255).astype(np.uint8)
