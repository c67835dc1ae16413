"""One scene of the embedded dataset: `Thing`s that are planned, laid out back to front, and
painted.

A thing covers a pixel if at least half of the pixel's 3 × 3 sub-samples lie inside its outline; the
front-most thing that covers a pixel owns it. Distractors share a texture, or the colours, with a
category of the scene without belonging to it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .families import outline
from .textures import TILE, background, texture_statistics, texture_tile

SUB = 3  # sub-samples per pixel and axis
MIN_AREA = 24  # px, smallest visible part
MIN_SHARE = 0.35  # smallest visible part, of the whole thing


@dataclass
class Thing:
    """An object of a scene; `scale` is its longer side over the frame's shorter side."""

    family: str
    texture: str
    scale: float
    category: int = 0  # 1-based id, 0 for things outside every category
    distracts: int = 0  # id of the category that it is a distractor of, else 0
    colours_of: str = ""  # texture whose colours it takes on, "" for its own

    @property
    def kind(self) -> str:
        """ "" for no distractor, else what is shared: "texture" or "colour"."""
        return ("colour" if self.colours_of else "texture") if self.distracts else ""


@dataclass
class Scene:
    """image uint8 (H, W, 3) RGB; owner int16 (H, W), 0 or 1 + index into things; things."""

    image: np.ndarray
    owner: np.ndarray
    things: list[Thing]


def _log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _scale(rng, low, high):
    """Mostly low to high, one in ten tiny, of the frame's shorter side."""
    return _log_uniform(rng, 0.05, 0.12) if rng.random() < 0.1 else _log_uniform(rng, low, high)


def plan_scene(vocabulary: Any, focal: int, rng: np.random.Generator) -> list[Thing]:
    """Plan the things of a scene: 1 to 3 categories, among them ``focal`` (1-based id), each with
    at least one distractor. ``vocabulary`` has `categories` [(texture, family)], `textures`,
    `families`."""
    others = [c for c in range(1, len(vocabulary.categories) + 1) if c != focal]
    extra = rng.choice(others, size=rng.choice(3, p=(0.5, 0.35, 0.15)), replace=False)
    things, present = [], [focal, *(int(c) for c in extra)]
    for category in present:
        texture, family = vocabulary.categories[category - 1]
        low, high = (0.5, 1.0) if category == focal else (0.3, 0.8)
        things.append(Thing(family, texture, _log_uniform(rng, low, high), category))
        for _ in range(rng.choice(3, p=(0.6, 0.3, 0.1))):
            scale = _scale(rng, 0.2, 0.5)
            things.append(Thing(family, texture, scale, category))
    return things + [_distractor(vocabulary, category, rng) for category in present]


def _distractor(vocabulary, category, rng):
    texture, family = vocabulary.categories[category - 1]
    named = set(vocabulary.categories)
    scale = _scale(rng, 0.12, 0.4)
    if rng.random() < 0.12:  # the same texture on another shape, a pair without a name
        family = str(rng.choice([f for f in vocabulary.families if f != family]))
        return Thing(family, texture, scale, 0, category)
    # the same colours in another texture on another shape, if that pair has no name
    pairs = [(t, f) for t in vocabulary.textures for f in vocabulary.families]
    pairs = [p for p in pairs if p[0] != texture and p[1] != family and p not in named]
    other, family = pairs[rng.integers(len(pairs))]
    return Thing(family, other, scale, 0, category, texture)


def _coverage(parts, angle, stretch, radius, size):
    """Share of each pixel inside an outline, uint8 (size, size) in 0…255, centred."""
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([(c, s), (-s, c)])
    canvas = Image.new("L", (size * SUB, size * SUB))
    draw = ImageDraw.Draw(canvas)
    for points, fill in parts:
        xy = ((points * stretch) @ turn * radius + size / 2) * SUB - 0.5
        draw.polygon([tuple(p) for p in xy.tolist()], fill=255 * fill)
    return np.asarray(canvas.reduce(SUB))


class _Placed:
    """A thing with its place: window (top, left) in the frame, coverage inside, angle, radius."""

    def __init__(self, thing, shape, rng):
        height, width = shape
        self.thing = thing
        self.radius = thing.scale * min(shape) / 2
        self.angle = rng.uniform(0, 2 * math.pi)
        stretch = np.array((1.0, rng.uniform(0.8, 1.0)))[:: rng.choice((-1, 1))]
        size = 2 * math.ceil(self.radius * 1.5) + 2
        parts = outline(thing.family, rng)
        cover = _coverage(parts, self.angle, stretch, self.radius, size)
        margin = self.radius * 0.5  # so much may leave the frame, of which MIN_SHARE must stay
        x = rng.uniform(min(margin, width / 2), max(width - margin, width / 2))
        y = rng.uniform(min(margin, height / 2), max(height - margin, height / 2))
        top, left = round(y - size / 2), round(x - size / 2)
        self.whole = int((cover > 127).sum())
        t, b = max(-top, 0), min(size, height - top)
        lft, r = max(-left, 0), min(size, width - left)
        self.cover = cover[t:b, lft:r]
        self.inside = (t - size / 2, lft - size / 2)  # window's corner, from the thing's centre
        self.window = np.s_[top + t : top + b, left + lft : left + r]
        self.mask = self.cover > 127

    def enough(self, pixels):
        return pixels >= max(MIN_AREA, MIN_SHARE * self.whole)


def lay_out(
    things: Sequence[Thing], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[list[_Placed], np.ndarray] | None:
    """Place all things, back to front, so that each is visible enough: the list of places, and
    owner int16 (H, W); None if that fails."""
    order = sorted(things, key=lambda t: -t.scale * rng.uniform(0.5, 2.0))
    owner, placed, visible = (np.zeros(shape, np.int16), [], np.zeros(len(things) + 1, int))
    for number, thing in enumerate(order, 1):
        for _ in range(8):
            p = _Placed(thing, shape, rng)
            lost = np.bincount(owner[p.window][p.mask], minlength=len(visible))
            left = visible - lost
            if p.enough(p.mask.sum()) and all(q.enough(left[j]) for j, q in enumerate(placed, 1)):
                break
        else:
            return None
        owner[p.window][p.mask] = number
        visible = left
        visible[number] = p.mask.sum()
        placed.append(p)
    return placed, owner


def _texture(p, rng):
    """Texture and lighting of a placed thing, float32 (h, w, 3) for its window."""
    thing, (h, w) = p.thing, p.cover.shape
    # a distant thing shows a finer grain, but less than in proportion
    step = float(np.clip((0.35 / thing.scale) ** 0.4 * rng.uniform(0.8, 1.2), 0.5, 2.0))
    c, s = math.cos(-p.angle) * step, math.sin(-p.angle) * step
    top, left = p.inside
    reach = (abs(c) + abs(s)) * max(abs(top), abs(top + h), abs(left), abs(left + w))
    slack = max(TILE / 2 - reach, 0)
    x, y = TILE / 2 + rng.uniform(-slack, slack, size=2)
    window = (c, -s, x + c * left - s * top, s, c, y + s * left + c * top)
    tile = texture_tile(thing.texture)
    bilinear = Image.Resampling.BILINEAR
    colour = np.asarray(tile.transform((w, h), Image.Transform.AFFINE, window, bilinear))
    colour = colour.astype(np.float32)
    if thing.colours_of:
        own, new = map(texture_statistics, (thing.texture, thing.colours_of))
        contrast = np.sqrt(new[1].mean() / own[1].mean())  # halfway, so that its pattern shows
        colour = (colour - own[0]) * contrast + new[0]
    slope = rng.uniform(-0.18, 0.18, size=2) / max(p.radius, 1)
    light = slope[0] * (np.arange(h) + top)[:, None] + slope[1] * (np.arange(w) + left)
    return colour * (rng.uniform(0.85, 1.15) + np.clip(light, -0.3, 0.3))[..., None]


def _paint(p, canvas, rng):
    alpha = p.cover.astype(np.float32)[..., None] / 255
    if rng.random() < 0.5:  # a soft contact shadow
        blurred = Image.fromarray(p.cover).filter(ImageFilter.BoxBlur(max(2, p.radius * 0.1)))
        shadow = np.asarray(blurred, np.float32)[..., None] / 255
        canvas[p.window] *= 1 - rng.uniform(0.2, 0.5) * shadow
    canvas[p.window] += alpha * (_texture(p, rng) - canvas[p.window])


def render_scene(vocabulary: Any, focal: int, rng: np.random.Generator) -> Scene:
    """A `Scene` about a category, with its size drawn from 240 … 400 by 200 … 320 px."""
    width, height = int(rng.integers(300, 401)), int(rng.integers(220, 321))
    if rng.random() < 0.25:
        width, height = height, width
    found = None
    while found is None:  # a crowded plan is replaced, never squeezed
        found = lay_out(plan_scene(vocabulary, focal, rng), (height, width), rng)
    placed, owner = found
    banned = {name for p in placed for name in (p.thing.texture, p.thing.colours_of) if name}
    canvas = np.asarray(background((width, height), banned, rng), np.float32)
    canvas = canvas * np.float32(rng.uniform(0.7, 1.1))
    for p in placed:
        _paint(p, canvas, rng)
    canvas *= rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, size=3).astype(np.float32)
    canvas += rng.uniform(0, 5) * rng.standard_normal(canvas.shape, dtype=np.float32)
    image = np.clip(canvas, 0, 255).astype(np.uint8)
    return Scene(image, owner, [p.thing for p in placed])
