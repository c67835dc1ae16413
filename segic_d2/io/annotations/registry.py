"""The formats of labelling tools by name, and how a name such as ``labelme:/data/cats`` is read.

The readers are our own. supervision's (0.31) read RLEs exactly; but they paint the border of a
polygon (21x21 px of a square of 20x20, in COCO, YOLO and labelme alike), take a crowd for an
object, and decode all masks at once. Ours give pycocotools' pixels.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils.registry import Registry

from ...utils.registries import find_registered
from .files import start_folder
from .records import SHARES, Annotated, AnnotationSet, Pictures

ANNOTATION_REGISTRY = Registry("ANNOTATION")
ANNOTATION_REGISTRY.__doc__ = """
Formats of annotations by name: classes with ``read(place) → AnnotationSet`` and, where we write it,
``write(pictures, folder, names)``; both static. ``place`` is what stands behind the name's colon.
"""


def format_of(name: str) -> str:
    """The format that a name such as "voc:/data/voc" begins with; "": none."""
    kind, colon, _ = name.partition(":")
    return kind if colon and kind in ANNOTATION_REGISTRY else ""


def read_annotations(name: str) -> AnnotationSet:
    """Read what a name says: ``coco:JSON:IMAGES``, ``labelme:FOLDER``, …; what is wrong with single
    pictures and things is in ``faults`` of the set.

    Raises:
        FileNotFoundError, ValueError: naming the file; nothing of it can be read, or its shapes are
            boxes and other ones without an area alone.
    """
    kind, _, place = name.partition(":")
    found: AnnotationSet = find_registered(ANNOTATION_REGISTRY, kind, "format").read(place)
    others = [f"{n} {what}" for what, n in found.notes.items() if what.startswith("of the kind ")]
    if others and not found.faults and not found.marked:
        shown = ", ".join(others)
        raise ValueError(f"{name} has no masks, only shapes that are none: {shown}; draw outlines")
    if found.notes[SHARES] and not found.marked:
        found.fault(f"{found.place}: all polygons are {SHARES}; export them in px")
    return found


def need_free(kind: str, folder: str | Path) -> None:
    """FileExistsError: ``write_annotations`` would write over a file, which it never does."""
    form = find_registered(ANNOTATION_REGISTRY, kind, "format")
    start_folder(Path(folder), getattr(form, "files", ()))


def write_annotations(
    kind: str,
    pictures: Sequence[Annotated],
    folder: str | Path,
    names: Mapping[str, str] | None = None,
    tolerance: float | None = None,
) -> str:
    """Write pictures and their things as a format, with copies of the pictures, so that the folder
    is whole and can be moved.

    Args:
        kind: "masks" (which ``folder:`` reads), "coco", "yolo", "labelme", "cvat", "labelstudio".
        folder: made where it is missing. names: class → its name in the files.
        tolerance: px between the edge of a mask and its polygon, at most, in the formats that may
            have polygons (labelme, YOLO, COCO, CVAT); None: the masks are exact.

    Returns:
        The name that reads it, such as ``coco:OUT/annotations.json:OUT/images``.

    Raises:
        ValueError: as of ``require_writable``, or what is given does not fit. FileExistsError: the
            folder has annotations.
    """
    form = require_writable(kind, tolerance)
    how = {} if tolerance is None else {"tolerance": tolerance}
    return form.write(_Renamed(pictures, names or {}), Path(folder), **how)


def require_writable(kind: str, tolerance: float | None = None) -> Any:
    """The format of that name. ValueError: it is unknown, is read alone, or has no polygons, so
    that no tolerance is to be given."""
    form = find_registered(ANNOTATION_REGISTRY, kind, "format")
    if not hasattr(form, "write"):
        able = sorted(n for n, f in ANNOTATION_REGISTRY if hasattr(f, "write"))
        raise ValueError(f"format {kind!r} is read, not written; there are {', '.join(able)}")
    if tolerance is not None:
        if "tolerance" not in signature(form.write).parameters:
            raise ValueError(f"format {kind!r} holds exact masks, no polygons: give no tolerance")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance is {tolerance!r}; it is px from 0 on")
    return form


class _Renamed(Pictures):
    """The same pictures with one list of classes, in the table's order, then as met."""

    def __init__(self, pictures: Sequence[Annotated], names: Mapping[str, str]) -> None:
        self._pictures, self._names = pictures, names
        shown = dict.fromkeys(name for p in pictures for name in p.names)
        classes = list(dict.fromkeys([*(n for n in names if n in shown), *shown]))
        self._classes = list(dict.fromkeys(names.get(n, n) for n in classes))
        self._rows = {name: i for i, name in enumerate(self._classes)}

    def __len__(self) -> int:
        return len(self._pictures)

    def picture(self, row: int) -> Annotated:
        picture, names = self._pictures[row], self._names
        own = [self._rows.get(names.get(n, n), -1) for n in picture.names]
        things = [t._replace(label=own[t.label]) for t in picture.things]
        return replace(picture, names=self._classes, things=things)


def references_in(name: str) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield each picture of a name as a reference: file, masks bool (n, H, W), their n classes.
    ValueError: the first fault, or nothing is marked in any picture."""
    found = read_annotations(name)
    if found.faults:
        more = len(found.faults) + found.more_faults - 1
        raise ValueError(found.faults[0] + (f" (and {more} more)" if more else ""))
    nothing = True
    for picture in found:
        masks = {n: m for n, m in picture.masks().items() if m.any()}
        if masks:
            nothing = False
            yield picture.file_name, np.stack(list(masks.values())), list(masks)
    if nothing:
        raise ValueError(f"{name}: nothing is marked in its {len(found)} pictures")
