"""labelme: a JSON file beside each picture, with ``shapes``."""

import base64
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...utils.files import write_whole
from ...utils.remote import first_line
from ..opening import open_image
from ..rle import decode, encode
from .files import (
    add_file,
    check_size,
    copy_pictures,
    find_picture,
    load_json,
    need_folder,
    picture_beside,
    start_folder,
)
from .outline import joined_rings
from .records import Annotated, AnnotationSet, Size
from .registry import ANNOTATION_REGISTRY
from .shapes import ellipse, joined_groups

VERSION = "5.5.0"  # of the files that are written
SPECIAL = ("__ignore__", "_background_")  # labels with a meaning of their own in labelme
BOXES = ("rectangle", "oriented_rectangle")
NO_AREA = (*BOXES, "line", "linestrip", "point", "points")


@ANNOTATION_REGISTRY.register()
class labelme:  # the name of the format
    """``labelme:FOLDER``, or one of its JSON files."""

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read polygons, circles and masks; shapes of one label and ``group_id`` are one thing."""
        root = Path(place)
        files = [root] if root.is_file() else _files(root)
        found = AnnotationSet(place)
        for file in files:
            try:
                _read_file(found, file)
            except (ValueError, OSError) as error:
                found.fault(str(error))
        return found

    @staticmethod
    def write(pictures: Sequence[Annotated], folder: Path, tolerance: float | None = None) -> str:
        """Write each picture and its JSON file: a polygon along the edges of the pixels, or within
        ``tolerance`` px of them, for each part of a thing, parts in a group. Crowds are left out.
        Where doubt is known, the flag "doubtful" says whether somebody should look at it."""
        places = copy_pictures(pictures, folder)
        start_folder(folder, [place.with_suffix(".json").name for place in places])
        for picture, place in zip(pictures, places, strict=True):
            shapes: list[dict[str, Any]] = []
            own = None if picture.given else tolerance
            for number, thing in enumerate(picture.things, 1):
                mask = decode(thing.segmentation, *picture.size, picture.file_name)
                parts = [] if thing.crowd or not mask.any() else joined_rings(mask, own)
                about: dict[str, Any] = {"label": picture.names[thing.label]}
                for ring in parts:
                    group = number if len(parts) > 1 else None
                    shape = {"points": ring.tolist(), "group_id": group, "description": ""}
                    shapes.append({**about, **shape, "shape_type": "polygon", "flags": {}})
            content: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes}
            if picture.doubt is not None:
                content["flags"] = {"doubtful": picture.doubtful}
            content |= {"imagePath": place.name, "imageData": None, "imageHeight": picture.size[0]}
            content["imageWidth"] = picture.size[1]
            text = json.dumps(content, ensure_ascii=False, indent=2)
            write_whole(place.with_suffix(".json"), text)
        return f"labelme:{folder}"


def _files(root: Path) -> list[Path]:
    need_folder(root, "of labelme's JSON files")
    every = (f for f in root.rglob("*") if f.suffix.lower() == ".json")
    files = sorted(f for f in every if not f.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"no .json files in {root}: labelme writes one beside each picture")
    return files


def _read_file(found: AnnotationSet, file: Path) -> None:
    content = load_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise ValueError(f"{file} has no list 'shapes': it is no file of labelme")
    picture = find_picture(str(content.get("imagePath") or ""), [file.parent])
    picture = picture or picture_beside(file)
    if picture is None:
        held = bool(content.get("imageData"))
        raise FileNotFoundError(
            f"{file}: imagePath is {content.get('imagePath')!r}: no such picture, nor one beside it"
            + "; save the picture that it holds (imageData) there" * held
        )
    row = add_file(found, picture)
    if row is not None:
        add_shapes(found, file, content, row)


def add_shapes(found: AnnotationSet, file: Path, content: dict[str, Any], row: int) -> None:
    """Add the shapes of a file's content to the picture ``row``, which must have the size that the
    file says."""
    said = content.get("imageHeight"), content.get("imageWidth")
    if check_size(found, row, said, str(file)):
        for label, segmentation, where in _things(found, file, content["shapes"], row):
            found.add(row, found.label(label), segmentation, where, thing_id=where)


def _things(
    found: AnnotationSet, file: Path, shapes: list[Any], row: int
) -> Iterator[tuple[str, Any, str]]:
    """(label, segmentation, where) of each thing."""
    size = found.size(row)
    groups: dict[Any, list[Any]] = {}
    for number, shape in enumerate(shapes):
        where = f"{file}: shapes[{number}]"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label:
            found.fault(f"{where}: label is {label!r}; it must be a text")
            continue
        kind = shape.get("shape_type") or "polygon"
        if label in SPECIAL:
            found.notes[f"labelled {label}"] += 1
            continue
        if kind in NO_AREA:
            found.leave_out(kind)
            continue
        try:
            one = _mask(shape, size) if kind == "mask" else _ring(shape, kind)
        except (ValueError, TypeError, KeyError, IndexError, OSError, OverflowError) as error:
            found.fault(f"{where} ({label}): {error}; correct or delete it in labelme")
            continue
        group = shape.get("group_id")
        if not isinstance(group, int | str | None):
            found.fault(f"{where} ({label}): group_id is {group!r}, not a number")
            continue
        key = (label, group) if group is not None else (label, number, "alone")
        groups.setdefault(key, []).append((one, where))
    yield from joined_groups(found, groups, size)


def _ring(shape: dict[str, Any], kind: str) -> list[Any]:
    points = shape.get("points")
    if not isinstance(points, list) or any(not isinstance(p, list) or len(p) != 2 for p in points):
        raise ValueError(f"points are {str(points)[:60]}, no list of [x, y]")
    if kind == "polygon":
        return [v for point in points for v in point]
    if kind != "circle":
        raise ValueError(f"shape_type is {kind!r}; polygon, circle and mask are read")
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    return ellipse((x, y), (radius, radius), 0)


def _mask(shape: dict[str, Any], size: Size) -> dict[str, Any]:
    """The RLE of a PNG in base64, which lies at the first of two points."""
    (x, y), _ = shape["points"]
    x, y, canvas = round(x), round(y), np.zeros(size, bool)
    try:
        data = base64.b64decode(shape["mask"], validate=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"mask is no base64: {error}") from error
    try:
        with open_image(io.BytesIO(data)) as image:
            width, height = image.size
            inside = 0 <= x <= x + width <= size[1] and 0 <= y <= y + height <= size[0]
            part = np.asarray(image.convert("L")) > 0 if inside else None
    except Exception as error:  # decoders fail in many ways
        raise ValueError(f"mask is no PNG: {first_line(error)}") from error
    if part is None:
        raise ValueError(f"mask of {width}x{height} px at ({x}, {y}) reaches out")
    canvas[y : y + height, x : x + width] = part
    return encode(canvas)
