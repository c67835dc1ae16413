"""COCO's instances: one JSON file with ``images``, ``annotations`` and ``categories``."""

import math
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager

from ..opening import MOST
from ..pictures import image_size
from .coco_file import KEYS, write_file
from .files import copy_pictures, start_folder
from .json_stream import elements
from .records import Annotated, AnnotationSet, Size
from .registry import ANNOTATION_REGISTRY

CROWD = {0: False, 1: True, None: False, "0": False, "1": True}  # False is 0, True is 1
BOXES = "without a mask (boxes alone)"
ADVICE = "correct it, or export the file anew"


class CocoSet(AnnotationSet):
    """``category_ids``: of the file, in the order of the classes."""

    category_ids: list[Any]

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.faulty: set[str] = set()  # categories with a fault, whose annotations have it too


@ANNOTATION_REGISTRY.register()
class coco:  # the name of the format
    """``coco:JSON:IMAGES``."""

    files = ("annotations.json",)  # that are never written over

    @staticmethod
    def read(place: str) -> CocoSet:
        """Read a file. Classes are in the order of their ids, pictures too, as Detectron2 has them.
        A category that only groups others (their ``supercategory``) and has no annotation is no
        class. ValueError: also where it lacks a list, or all annotations are crowds."""
        file_name, _, root = place.rpartition(":")
        if not file_name or not root:
            raise ValueError(f"'coco:{place}': expected coco:ANNOTATIONS.json:IMAGE_FOLDER")
        file = Path(PathManager.get_local_path(file_name))
        if not file.is_file():
            raise FileNotFoundError(f"no such file: {file}")
        found = CocoSet(str(file))
        images, categories, rows = _scan(file, found)
        _add_categories(
            found,
            categories,
            {_spelled(i) for i in {r[1] for r in rows if isinstance(r[1], int | float | str)}},
            file,
        )
        owners = _add_pictures(found, images, file, root)
        _add_things(found, rows, owners, file)
        return found

    @staticmethod
    def write(pictures: Sequence[Annotated], folder: Path, tolerance: float | None = None) -> str:
        """Write ``annotations.json`` and ``images/``: masks are exact RLEs, or polygons within
        ``tolerance`` px of them; crowds are RLEs. Where doubt is known, images have "doubt"."""
        start_folder(folder, coco.files)
        places = copy_pictures(pictures, folder / "images")
        write_file(folder / "annotations.json", pictures, places, tolerance)
        return f"coco:{folder / 'annotations.json'}:{folder / 'images'}"


def _scan(file: Path, found: AnnotationSet) -> tuple[list[Any], list[Any], list[Any]]:
    """The images, the categories, and of each annotation (image id, category id, polygons as flat
    arrays or RLE, iscrowd, id, area)."""
    lists: dict[str, list[Any]] = {"images": [], "categories": []}
    rows: list[Any] = []
    seen = set()
    for key, value in elements(file):
        if key not in KEYS:
            continue
        seen.add(key)
        if value is None:
            continue
        if not isinstance(value, dict):
            found.fault(f"{file}: {key} has {str(value)[:40]!r} where a dict belongs")
        elif key == "annotations":
            get = value.get
            masks = _packed(get("segmentation"))
            ids = get("image_id"), get("category_id")
            about = get("iscrowd", 0), get("id", len(rows)), _area(get("area"))
            rows.append((*ids, masks, *about))
        else:
            lists[key].append(value)
    if lacking := [key for key in KEYS if key not in seen]:
        raise ValueError(f"{file} has no {lacking[0]!r}: it is no file of COCO's instances")
    return lists["images"], lists["categories"], rows


def _area(value: Any) -> float:
    """A positive number, which may be text; NaN: none. Evaluators sort objects by it."""
    try:
        area = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return area if 0 < area < math.inf else math.nan


def _packed(segmentation: Any) -> Any:
    """Polygons in an eighth of the memory, where they hold numbers alone."""
    if isinstance(segmentation, list) and segmentation:
        flat = not isinstance(segmentation[0], list)  # one polygon without its list
        try:
            return [array("d", p) for p in ([segmentation] if flat else segmentation)]
        except (TypeError, OverflowError):
            return [segmentation] if flat else segmentation
    return segmentation


def _add_categories(found: CocoSet, categories: list[Any], used: set[Any], file: Path) -> None:
    """Set the names, and ``category_ids``; ``used``: ids of the annotations, as text."""
    above = [(c.get("supercategory"), c.get("name")) for c in categories]
    groups = {group for group, name in above if isinstance(group, str) and group != name}
    roots = [c for c in categories if c.get("supercategory") == "none"]  # as Roboflow writes it
    if len(roots) == 1 and roots[0].get("id") == 0 and len(categories) > 1:
        groups.add(str(roots[0].get("name")))
    ids: dict[Any, str] = {}
    owners: dict[str, Any] = {}  # of names
    for category in categories:
        number, name = _whole(category.get("id")), category.get("name")
        if number is None or not isinstance(name, str) or not name.strip():
            found.fault(
                f"{file}: category {str(category)[:80]}: 'id' must be a number below 1e18, "
                "'name' a text"
            )
            found.faulty.add(_spelled(category.get("id")))
        elif ids.get(number, name) != name:
            found.fault(f"{file}: category id {number} stands for {ids[number]!r} and for {name!r}")
        elif name in groups and _spelled(number) not in used:
            found.notes["classes that only group others"] += 1
        elif name in owners and owners[name] != number and _spelled(number) in used:
            found.fault(
                f"{file}: the categories {owners[name]!r} and {number!r} are both named {name!r}: "
                "give all annotations one of them, or name them apart"
            )
            found.faulty.add(_spelled(number))
        elif owners.setdefault(name, number) == number:
            ids[number] = name
        else:
            found.notes["classes of a name that another one has, without annotations"] += 1
    if not ids:
        more = f": {found.faults[0]}" if found.faults else ""
        raise ValueError(
            f"{file}: its 'categories' name no class; export it with its classes{more}"
        )
    found.category_ids = sorted(ids)
    found.names = [ids[i] for i in found.category_ids]


def _add_pictures(found: AnnotationSet, images: list[Any], file: Path, root: str) -> dict[Any, int]:
    """Add the pictures; returns their rows by id, -1 of those with a fault."""
    owners: dict[Any, int] = {}
    named: dict[Any, list[Any]] = {}
    listed: dict[str, set[str]] = {}
    for image in images:
        if isinstance(image.get("id"), int | str):
            named.setdefault(image["id"], []).append(image.get("file_name"))
    for image in sorted(images, key=_rank):
        number, name = image.get("id"), image.get("file_name")
        where = f"{file}: image {number!r}"
        if not _is_id(number) or not isinstance(name, str) or not name:
            found.fault(f"{where}: 'id' and 'file_name' must be there, not {number!r} and {name!r}")
            continue
        again, owners[number] = number in owners, -1
        if len(named[number]) > 1:  # whose are the annotations?
            if not again:
                files = " and ".join(map(str, named[number]))
                found.fault(f"{where}: {files} have this id; number them anew")
            continue
        path = _path(root, name, listed)
        if not path:
            found.fault(f"{where}: no such file: {os.path.join(root, name)}")
        elif size := _size(found, image, path, where):
            owners[number] = found.add_picture(path, size, number)
    return owners


def _rank(image: dict[str, Any]) -> tuple[int, Any]:
    number = image.get("id")
    return (0, number) if isinstance(number, int) else (1, str(number))


def _path(root: str, name: str, listed: dict[str, set[str]]) -> str:
    """Where a picture is; "" nowhere. Each folder is listed once; a backslash is a separator where
    no such file exists."""
    if "://" in root:
        return os.path.join(root, name)
    for spelling in dict.fromkeys([name, name.replace("\\", "/")]):
        folder, base = os.path.split(os.path.join(root, spelling))
        if folder not in listed:
            listed[folder] = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        if base in listed[folder]:
            return os.path.join(folder, base)
    return ""


def _size(found: AnnotationSet, image: dict[str, Any], path: str, where: str) -> Size | None:
    said = image.get("height"), image.get("width")
    try:
        odd = (isinstance(v, bool | list | dict) or (isinstance(v, float) and v % 1) for v in said)
        if any(odd):
            raise TypeError("no numbers")
        if None in said:
            return image_size(path)
        height, width = (int(v) for v in said)  # type: ignore[arg-type]
    except (ValueError, TypeError, OSError, OverflowError) as error:
        found.fault(f"{where}: height and width are {said!r} ({error}); {ADVICE}")
        return None
    if not (0 < height < 1 << 20 and 0 < width < 1 << 20 and height * width <= MOST):
        found.fault(f"{where}: height and width are {said!r}, no size of a picture; {ADVICE}")
        return None
    return height, width


def _add_things(found: CocoSet, rows: list[Any], owners: dict[Any, int], file: Path) -> None:
    labels = {number: i for i, number in enumerate(found.category_ids)}
    crowds, total = 0, len(rows)
    seen: set[int] = set()
    rows.reverse()
    while rows:  # which are freed as they are packed
        image, category, segmentation, crowd, number, area = rows.pop()
        row, label = _of(owners, image), _of(labels, category)
        if row == -1 or (label is None and _spelled(category) in found.faulty):
            continue  # of a picture or a category with a fault
        where = f"{file}: annotation {number!r}"
        if row is None or label is None or not _is_crowd(crowd) or not _is_mask(segmentation):
            reason = _reason(row, image, label, category, crowd, segmentation)
            found.fault(f"{where}: {reason}; {ADVICE}")
        elif not segmentation:
            found.notes[BOXES] += 1
        elif (content := hash((row, label, CROWD[crowd], _content(segmentation)))) in seen:
            found.notes["that repeat another one"] += 1
        elif found.add(row, label, segmentation, where, CROWD[crowd], number, area):
            crowds += CROWD[crowd]
            seen.add(content)
    if crowds and crowds == total:
        found.fault(
            f"{file}: all {crowds} annotations are crowds (iscrowd 1), which are never objects; "
            "labelling tools write this for brush masks: set iscrowd to 0 where one object is meant"
        )
    elif crowds:
        found.notes["crowds, which are ignored"] += crowds
    if total and found.notes[BOXES] == total:
        found.fault(f"{file}: no annotation has a 'segmentation': boxes alone are no masks")


def _content(segmentation: Any) -> str | bytes:
    """What tells a segmentation from others."""
    if isinstance(segmentation, dict) or not isinstance(segmentation[0], array):
        return str(segmentation)
    return b";".join(map(bytes, segmentation))


def _of(table: dict[Any, int], key: Any) -> int | None:
    """The entry of an id, whether it is a number or text: 7, 7.0 and "7" are one."""
    if _is_id(key) and key in table:
        return table[key]
    number = _whole(key)
    return None if number is None else table.get(number, table.get(str(number)))


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def _whole(value: Any) -> int | None:
    """A whole number, which may be text or a float; None: it is none."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 19 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) < 1e18 and value % 1 == 0 else None


def _spelled(value: Any) -> str:
    """An id as text, however it is written."""
    number = _whole(value)
    return str(value if number is None else number)


def _is_crowd(value: Any) -> bool:
    return isinstance(value, int | float | str | None) and value in CROWD


def _is_mask(value: Any) -> bool:
    return not value or isinstance(value, dict | list)


def _reason(
    row: int | None, image: Any, label: int | None, category: Any, crowd: Any, mask: Any
) -> str:
    if row is None:
        return f"image_id is {image!r}, which no image of the file has"
    if label is None:
        return f"category_id is {category!r}, which no category of the file has"
    if not _is_crowd(crowd):
        return f"iscrowd is {crowd!r}; it must be 0 or 1"
    return f"segmentation is {str(mask)[:40]!r}, neither polygons nor an RLE"
