"""What people point at a thing with → what is surely it, and what is surely not.

Coordinates are px of the picture as displayed, from its upper left corner: the first pixel reaches
from (0, 0) to (1, 1), so a box 10, 5, 22, 15 has 12 columns and 10 rows, and a point lies in the
pixel of its whole numbers. Shapes: H×W the picture as displayed.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from functools import reduce
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
import torch
from detectron2.utils.registry import Registry
from PIL import Image, ImageDraw

from ..structures.prompts import Marked
from .formats import suffix_of
from .masks import FOREIGN, AnyMask, from_polygons, read_json, to_masks

PROMPT_REGISTRY = Registry("PROMPT")
PROMPT_REGISTRY.__doc__ = """
Kinds of prompts by name: functions (size: (H, W), …) → Marked. A prompt is a dict; its key of the
function's name says that it is of this kind, and the function's other arguments are further keys.
ValueError: a value that it cannot be; the message begins with the kind.
"""

# what points at one thing, or at several, see `to_marked`
AnyPrompt: TypeAlias = AnyMask | Mapping[str, Any] | Sequence[Mapping[str, Any] | float]
Size: TypeAlias = tuple[int, int]


def to_marked(prompt: AnyPrompt, size: Size, as_ids: bool = False) -> dict[int, Marked]:
    """What a prompt marks in a picture, by id, ids ascending.

    - Any mask of ``to_masks``, with its ids; nothing is open.
    - A dict of one kind of ``PROMPT_REGISTRY``: id 1; a list of n dicts: 1…n. A dict of several
      kinds is what they say together of one thing, such as a box with a negative point in it.
    - Four numbers, as a list, tuple, array or tensor, are a box x0, y0, x1, y1: id 1. They cannot
      be a polygon, which has six.
    - A ``.json`` file that holds one of these.

    Args:
        size: (H, W) of the picture as displayed. as_ids: of ``to_masks``.

    Raises:
        FileNotFoundError, ValueError: as of ``to_masks``; a kind that there is not, or a value that
            its kind cannot have.
    """
    if isinstance(prompt, str | os.PathLike) and suffix_of(prompt) == ".json":
        prompt = read_json(prompt)
    if isinstance(prompt, Mapping):
        return {1: _of_dict(prompt, size)}
    if isinstance(prompt, np.ndarray | torch.Tensor) and prompt.ndim == 1:
        prompt = prompt.tolist()
    if isinstance(prompt, list | tuple) and prompt:
        if all(isinstance(p, Mapping) for p in prompt):
            return {i: _of_dict(p, size) for i, p in enumerate(prompt, 1)}
        if all(isinstance(p, Real) for p in prompt):
            if len(prompt) != 4:
                raise ValueError(
                    f"mask is a list of {len(prompt)} numbers; four are a box x0, y0, x1, y1, "
                    f"polygons are lists in a list, and {_known()}"
                )
            return {1: box(size, prompt)}
    return {i: Marked.of_mask(m) for i, m in to_masks(prompt, size, as_ids).items()}  # type: ignore[arg-type]


def _of_dict(prompt: Mapping[str, Any], size: Size) -> Marked:
    if {"counts", "size"} & set(prompt):
        return Marked.of_mask(to_masks(dict(prompt), size)[1])
    kinds = {name: kind for name, kind in PROMPT_REGISTRY if name in prompt}
    known = {name: list(inspect.signature(kind).parameters)[1:] for name, kind in kinds.items()}
    unknown = [key for key in prompt if not any(key in keys for keys in known.values())]
    if unknown or not kinds:
        advice = [text for key, text in FOREIGN.items() if key in prompt]
        odd = f"{unknown[0]!r} is none of its keys: " if unknown else ""
        raise ValueError(f"mask is a dict with {list(prompt)}; {(*advice, odd + _known())[0]}")
    own = [
        kinds[n](size, **{k: prompt[k] for k in keys if k in prompt}) for n, keys in known.items()
    ]
    marked = reduce(Marked.joined, own)
    if list(kinds) == ["points"] and not marked.inside.any():
        raise ValueError("points are all negative; one must lie on the thing")
    return marked


def _known() -> str:
    """The kinds with their further keys, for messages."""
    kinds = []
    for name, kind in sorted(PROMPT_REGISTRY):
        further = [k for k in list(inspect.signature(kind).parameters)[1:] if k != name]
        kinds.append(name + (f" (with {', '.join(further)})" if further else ""))
    return f"a prompt is a dict with {', '.join(kinds)}, or a COCO RLE with counts and size"


@PROMPT_REGISTRY.register()
def mask(size: Size, mask: AnyMask) -> Marked:
    """A mask of one id in any form of ``to_masks``."""
    masks = to_masks(mask, size)
    if len(masks) != 1:
        raise ValueError(f"mask in a dict has the ids {', '.join(map(str, masks))}; one is meant")
    return Marked.of_mask(next(iter(masks.values())))


@PROMPT_REGISTRY.register()
def polygon(size: Size, polygon: Any) -> Marked:
    """One polygon, flat x, y, x, y, … or pairs as labelme's, or several of one thing."""
    polygon = _plain(polygon)
    if not isinstance(polygon, list | tuple):
        raise ValueError(f"polygon {repr(polygon)[:80]} is no list of corners x, y, x, y, …")
    if [len(p) if isinstance(p, list) else 0 for p in polygon] == [size[1]] * size[0]:
        raise ValueError("polygon has the numbers of a mask of the picture: give them as 'mask'")
    one = _flat(polygon) or _is_line(polygon)
    return Marked.of_mask(from_polygons([polygon] if one else polygon, size))


@PROMPT_REGISTRY.register()
def box(size: Size, box: Any) -> Marked:
    """A box x0, y0, x1, y1 around the thing, or several that hold it together: what no box touches
    is outside, and nothing is surely inside."""
    outside, (height, width) = np.ones(size, dtype=bool), size
    for corners in _rows(box, 4, "box", "x0, y0, x1, y1"):
        shown, (x0, y0, x1, y1) = f"[{', '.join(f'{v:g}' for v in corners)}]", corners
        if x0 >= x1 or y0 >= y1:
            raise ValueError(
                f"box {shown} is no x0, y0, x1, y1 with x0 < x1 and y0 < y1 (COCO's x, y, width, "
                "height is x, y, x + width, y + height)"
            )
        if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
            raise ValueError(f"box {shown} reaches out of the picture of {width}x{height} px")
        if max(x1, y1) <= 1 and min(size) > 1:
            raise ValueError(f"box {shown} is in the first pixel; coordinates are px, not shares")
        rows, columns = (slice(int(a), int(np.ceil(b))) for a, b in ((y0, y1), (x0, x1)))
        outside[rows, columns] = False
    return Marked(np.zeros(size, dtype=bool), outside)


@PROMPT_REGISTRY.register()
def points(size: Size, points: Any, labels: Any = None) -> Marked:
    """Points (x, y) on the thing where their label is 1, beside it where it is 0; without labels,
    all are on it. Their pixels alone are marked."""
    where = _pixels(_rows(points, 2, "points", "x, y"), size, "points")
    try:
        on = np.ones(len(where)) if labels is None else np.atleast_1d(np.asarray(_plain(labels)))
    except ValueError:  # of several lengths
        on = np.zeros(0)
    if on.shape != (len(where),) or not np.isin(on, (0, 1)).all():
        raise ValueError(
            f"points have the labels {repr(labels)[:80]}; expected {len(where)}, each 1 (on the "
            "thing) or 0"
        )
    marked = np.zeros((2, *size), dtype=bool)  # outside, inside
    marked[on.astype(np.int64), where[:, 1], where[:, 0]] = True
    return Marked(inside=marked[1], outside=marked[0])


@PROMPT_REGISTRY.register()
def scribble(size: Size, scribble: Any, negative: Any = None, width: float = 1) -> Marked:
    """Strokes over the thing and, ``negative``, beside it: a line [[x, y], …], several in a list or
    an array (n, corners, 2), or a mask of ``to_masks`` with what was painted. ``width``: of the
    lines, px."""
    if not isinstance(width, Real) or not 1 <= width <= max(size):
        raise ValueError(f"scribble has the width {width!r}; it must be from 1 to {max(size)} px")
    inside = _strokes(size, scribble, round(width), "scribble")
    if negative is None:
        return Marked(inside, np.zeros(size, dtype=bool))
    return Marked(inside, _strokes(size, negative, round(width), "negative scribble"))


def _strokes(size: Size, strokes: Any, width: int, field: str) -> np.ndarray:
    """The pixels of lines or of a painted mask, bool (H, W)."""
    shape = tuple(getattr(strokes, "shape", ()))
    if len(shape) in (2, 3) and shape[-1] == 2 != size[1]:  # an array of corners, of lines of them
        strokes = strokes.tolist()
    if isinstance(strokes, list | tuple) and not any(isinstance(s, Mapping) for s in strokes):
        canvas = Image.new("1", size[::-1])
        draw = ImageDraw.Draw(canvas)
        for line in [strokes] if _is_line(strokes) else strokes:
            corners = _pixels(_rows(line, 2, field, "x, y"), size, field)
            xy = [(int(x), int(y)) for x, y in corners]
            draw.line(xy, fill=1, width=width, joint="curve")
            draw.point(xy, fill=1)  # a line of one corner
        found = np.array(canvas)
    else:
        found = np.logical_or.reduce([*to_masks(strokes, size).values()])
    if not found.any():
        raise ValueError(f"{field} is empty")
    return found


def _plain(value: Any) -> Any:
    """Arrays and tensors, also in lists, as lists."""
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.tolist() if isinstance(value, np.ndarray | torch.Tensor) else value


def _flat(value: Sequence[Any]) -> bool:
    return bool(value) and all(isinstance(v, Real) for v in value)


def _is_line(value: Sequence[Any]) -> bool:
    """Whether all in a list are pairs of numbers."""
    return bool(value) and all(
        isinstance(v, list | tuple) and len(v) == 2 and _flat(v) for v in map(_plain, value)
    )


def _rows(value: Any, length: int, field: str, form: str) -> np.ndarray:
    """One tuple of numbers or several, float64 (n, length)."""
    try:
        rows = np.atleast_2d(np.asarray(_plain(value), dtype=np.float64))
    except (TypeError, ValueError, OverflowError):
        rows = np.zeros(0)
    if rows.ndim != 2 or rows.shape[1] != length or not len(rows) or not np.isfinite(rows).all():
        raise ValueError(f"{field} {repr(value)[:80]} is no list of finite numbers {form}")
    return rows


def _pixels(points: np.ndarray, size: Size, field: str) -> np.ndarray:
    """The pixels that points (n, 2) lie in, int64 (n, 2)."""
    out = ((points < 0) | (points >= size[::-1])).any(1)
    if out.any():
        x, y = points[out][0]
        raise ValueError(f"{field}: ({x:g}, {y:g}) is not in the picture of {size[1]}x{size[0]} px")
    return points.astype(np.int64)
