"""CVAT: "CVAT for images 1.1", one XML file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...utils.files import whole_file
from ..rle import decode, encode
from .files import (
    add_file,
    check_size,
    copy_pictures,
    find_picture,
    load_xml,
    need_folder,
    start_folder,
)
from .outline import joined_rings
from .records import Annotated, AnnotationSet, Size
from .registry import ANNOTATION_REGISTRY
from .shapes import ellipse, joined_groups

SHAPES = ("polygon", "mask", "ellipse")
NO_AREA = ("box", "polyline", "points", "cuboid", "skeleton", "tag")  # a box is no mask


@ANNOTATION_REGISTRY.register()
class cvat:  # the name of the format
    """``cvat:FOLDER`` with ``annotations.xml`` and the pictures, or ``cvat:XML``, or
    ``cvat:XML:IMAGES``."""

    files = ("annotations.xml",)  # that are never written over

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read polygons, masks and ellipses; shapes of one label and ``group_id`` are one thing."""
        file, folders = _places(place)
        root = load_xml(file)
        if root.find("track") is not None:
            raise ValueError(f"{file} has tracks of a video: export it as 'CVAT for images 1.1'")
        images = root.findall("image")
        if root.tag != "annotations" or not images:
            raise ValueError(f"{file} has no <image>: it is no file of 'CVAT for images 1.1'")
        names = (e.text or "" for e in root.findall("meta//labels/label/name"))
        found = AnnotationSet(place, dict.fromkeys(names))
        for image in images:
            name = image.get("name") or ""
            where = f"{file}: image {image.get('id')!r} ({name})"
            picture = find_picture(name, folders)
            if picture is None:
                found.fault(
                    f"{where}: no such picture in {folders[0]}; name its folder as cvat:XML:IMAGES"
                )
                continue
            row = add_file(found, picture, split=image.get("subset") or "")
            said = image.get("height"), image.get("width")
            if row is not None and check_size(found, row, said, where):
                for label, segmentation, at in _things(found, image, found.size(row), where):
                    found.add(row, found.label(label), segmentation, at, thing_id=at)
        return found

    @staticmethod
    def write(pictures: Sequence[Annotated], folder: Path, tolerance: float | None = None) -> str:
        """Write ``annotations.xml`` and ``images/``: exact masks, or polygons within ``tolerance``
        px of them, parts in a group. Crowds are left out."""
        start_folder(folder, cvat.files)
        places = copy_pictures(pictures, folder / "images")
        meta = ElementTree.Element("meta")
        labels = ElementTree.SubElement(ElementTree.SubElement(meta, "task"), "labels")
        for name in pictures[0].names if pictures else ():
            label = ElementTree.SubElement(labels, "label")
            ElementTree.SubElement(label, "name").text = name
        with whole_file(folder / "annotations.xml") as part, open(part, "w", encoding="utf-8") as f:
            f.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
            f.write(f"  <version>1.1</version>\n{_text(meta)}")
            for i, (picture, place) in enumerate(zip(pictures, places, strict=True)):
                f.write(_text(_image(i, picture, place.name, None if picture.given else tolerance)))
            f.write("</annotations>\n")
        return f"cvat:{folder}"


def _text(element: ElementTree.Element) -> str:
    """An element of the file, indented."""
    ElementTree.indent(element, level=1)
    return f"  {ElementTree.tostring(element, encoding='unicode').rstrip()}\n"


def _image(
    number: int, picture: Annotated, name: str, tolerance: float | None
) -> ElementTree.Element:
    height, width = map(str, picture.size)
    about = {"id": str(number), "name": name, "width": width, "height": height}
    image = ElementTree.Element("image", about)
    for i, thing in enumerate(picture.things, 1):
        mask = decode(thing.segmentation, *picture.size, picture.file_name)
        about = {"label": picture.names[thing.label], "source": "auto"}
        if thing.crowd or not mask.any():
            continue
        if not tolerance:
            ElementTree.SubElement(image, "mask", {**about, **_runs(mask)})
            continue
        rings = joined_rings(mask, tolerance)
        group = {"group_id": str(i)} if len(rings) > 1 else {}
        for ring in rings:
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
            shape = {**about, "occluded": "0", "points": points, "z_order": "0", **group}
            ElementTree.SubElement(image, "polygon", shape)
    return image


def _places(place: str) -> tuple[Path, list[Path]]:
    """The XML file, and the folders where its pictures may be."""
    path = Path(place)
    if path.is_dir():
        return path / "annotations.xml", [path / "images", path]
    if not path.is_file() and ":" in place:
        first, _, images = place.rpartition(":")
        return Path(first), [need_folder(Path(images), "of CVAT's pictures")]
    return path, [path.parent / "images", path.parent]


def _things(
    found: AnnotationSet, image: ElementTree.Element, size: Size, where: str
) -> Iterator[tuple[str, Any, str]]:
    """(label, segmentation, where) of each thing."""
    groups: dict[Any, list[Any]] = {}
    for number, shape in enumerate(image):
        at = f"{where}: {shape.tag} {number}"
        if shape.tag not in SHAPES:
            found.leave_out(shape.tag)
            continue
        label = shape.get("label")
        if not label:
            found.fault(f"{at} has no label")
            continue
        try:
            one = {"polygon": _ring, "ellipse": _ellipse, "mask": _mask}[shape.tag](shape, size)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            text = f"lacks {error}" if isinstance(error, KeyError | TypeError) else str(error)
            found.fault(f"{at} ({label}): {text}; correct or delete it in CVAT")
            continue
        group = shape.get("group_id") or "0"
        groups.setdefault((label, group if group != "0" else -number - 1), []).append((one, at))
    yield from joined_groups(found, groups, size)


def _ring(shape: ElementTree.Element, size: Size) -> list[float]:
    text = shape.attrib["points"]
    try:
        pairs = [[float(v) for v in pair.split(",")] for pair in text.split(";")]
    except ValueError as error:
        raise ValueError(f"points are {text[:60]!r}: {error}") from error
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"points are {text[:60]!r}, not x,y;x,y;…")
    return [v for pair in pairs for v in pair]


def _ellipse(shape: ElementTree.Element, size: Size) -> list[float]:
    cx, cy, rx, ry = (float(shape.attrib[k]) for k in ("cx", "cy", "rx", "ry"))
    return ellipse((cx, cy), (rx, ry), float(shape.get("rotation") or 0))


def _mask(shape: ElementTree.Element, size: Size) -> dict[str, Any]:
    """Runs along the rows of a box, background first."""
    keys = ("left", "top", "width", "height")
    left, top, width, height = (round(float(shape.attrib[k])) for k in keys)
    runs = np.array([int(v) for v in shape.attrib["rle"].split(",")], np.int64)
    inside = 0 <= left <= left + width <= size[1] and 0 <= top <= top + height <= size[0]
    if not inside or width < 1 or height < 1:
        raise ValueError(
            f"left, top, width, height {left}, {top}, {width}, {height} reach out of the picture "
            f"of {size[1]}x{size[0]} px"
        )
    if ((runs < 0) | (runs > width * height)).any() or runs.sum() != width * height:
        raise ValueError(f"rle sums to {runs.sum()}, its box has {width * height} px")
    canvas = np.zeros(size, bool)
    part = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    canvas[top : top + height, left : left + width] = part
    return encode(canvas)


def _runs(mask: np.ndarray) -> dict[str, str]:
    """The attributes of a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    flat = part.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff([0, *edges, flat.size]).tolist()
    about = {"rle": ", ".join(map(str, runs)), "left": left, "top": top}
    about |= {"width": part.shape[1], "height": part.shape[0], "occluded": 0, "z_order": 0}
    return {key: str(value) for key, value in about.items()}
