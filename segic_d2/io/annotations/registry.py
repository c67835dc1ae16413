"""The formats of labelling tools by name, and how a name such as ``labelme:/data/cats`` is read."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.utils.registry import Registry

from ...utils.registries import find_registered
from .files import start_folder
from .records import SHARES, Annotated, AnnotationSet

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
        FileNotFoundError, ValueError: naming the file; nothing of it can be read.
    """
    kind, _, place = name.partition(":")
    found: AnnotationSet = find_registered(ANNOTATION_REGISTRY, kind, "format").read(place)
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
) -> str:
    """Write pictures and their things as a format, with copies of the pictures, so that the folder
    is whole and can be moved.

    Args:
        kind: "masks" (which ``folder:`` reads), "coco", "yolo", "labelme", "cvat", "labelstudio".
        folder: made where it is missing. names: class → its name in the files.

    Returns:
        The name that reads it, such as ``coco:OUT/annotations.json:OUT/images``.

    Raises:
        ValueError: an unknown format, or one that cannot hold what is given. FileExistsError: the
            folder has annotations.
    """
    form = find_registered(ANNOTATION_REGISTRY, kind, "format")
    if not hasattr(form, "write"):
        able = sorted(n for n, f in ANNOTATION_REGISTRY if hasattr(f, "write"))
        raise ValueError(f"format {kind!r} is read, not written; there are {', '.join(able)}")
    return form.write(_renamed(pictures, names or {}), Path(folder))


def _renamed(pictures: Sequence[Annotated], names: Mapping[str, str]) -> list[Annotated]:
    """The same with one list of classes: those that occur, in the table's order, then as met."""
    shown = [p.names[t.label] for p in pictures for t in p.things]
    classes = list(dict.fromkeys([n for n in names if n in shown] + shown))
    classes = list(dict.fromkeys(names.get(n, n) for n in classes))
    rows = {name: i for i, name in enumerate(classes)}
    return [
        Annotated(
            p.file_name,
            p.size,
            classes,
            [t._replace(label=rows[names.get(n := p.names[t.label], n)]) for t in p.things],
            p.image_id,
            p.split,
        )
        for p in pictures
    ]


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
