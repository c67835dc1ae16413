"""Label Studio: the JSON export, with polygons, ellipses and brush masks."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ...utils.files import write_whole
from ..rle import decode, encode
from .brush import decode_brush, encode_brush
from .files import (
    add_file,
    check_size,
    copy_pictures,
    find_picture,
    load_json,
    need_folder,
    start_folder,
)
from .records import UNLABELLED, Annotated, AnnotationSet, Size
from .registry import ANNOTATION_REGISTRY
from .shapes import ellipse

KINDS = ("polygonlabels", "brushlabels", "ellipselabels")
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # before the name of an uploaded file


@ANNOTATION_REGISTRY.register()
class labelstudio:  # the name of the format
    """``labelstudio:JSON``, with the pictures beside it or in ``images/``, or
    ``labelstudio:JSON:IMAGES``."""

    files = ("tasks.json",)  # that are never written over

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read the last annotation of each task that was not cancelled; predictions are not."""
        file, folders = _places(place)
        tasks = load_json(file)
        if not isinstance(tasks, list) or not all(isinstance(t, dict) for t in tasks):
            raise ValueError(f"{file} is no list of tasks: export as 'JSON'")
        if tasks and not any("annotations" in task for task in tasks):
            raise ValueError(f"{file} has no 'annotations': export as 'JSON', not as 'JSON-MIN'")
        found = AnnotationSet(place)
        for number, task in enumerate(tasks):
            _read_task(found, file, task, task.get("id", number), folders)
        return found

    @staticmethod
    def write(pictures: Sequence[Annotated], folder: Path) -> str:
        """Write ``tasks.json``, whose brush masks are exact, and ``images/``. Crowds are left
        out. ``doubt``, where it is known, is a column of the tasks, by which they are sorted."""
        start_folder(folder, labelstudio.files)
        places = copy_pictures(pictures, folder / "images")
        tasks = []
        for number, (picture, place) in enumerate(zip(pictures, places, strict=True), 1):
            result = []
            height, width = picture.size
            for i, thing in enumerate(picture.things, 1):
                mask = decode(thing.segmentation, height, width, picture.file_name)
                if thing.crowd or not mask.any():
                    continue
                about = {"id": f"{number}-{i}", "type": "brushlabels", "from_name": "tag"}
                about |= {"to_name": "image", "origin": "manual"}
                value = {"format": "rle", "rle": encode_brush(mask)}
                value["brushlabels"] = [picture.names[thing.label]]
                sides = {"original_width": width, "original_height": height, "image_rotation": 0}
                result.append({**about, **sides, "value": value})
            local: dict[str, Any] = {"image": f"/data/local-files/?d=images/{place.name}"}
            if picture.doubt is not None:
                local["doubt"] = picture.doubt
            tasks.append({"id": number, "data": local, "annotations": [{"result": result}]})
        write_whole(folder / "tasks.json", json.dumps(tasks, ensure_ascii=False))
        return f"labelstudio:{folder / 'tasks.json'}"


def _places(place: str) -> tuple[Path, list[Path]]:
    path = Path(place)
    if not path.exists() and ":" in place:
        first, _, images = place.rpartition(":")
        return Path(first), [need_folder(Path(images), "of Label Studio's pictures")]
    if path.is_dir():
        raise ValueError(f"labelstudio:{place} is a folder; name its JSON file")
    return path, [path.parent / "images", path.parent]


def _read_task(
    found: AnnotationSet, file: Path, task: dict[str, Any], number: Any, folders: list[Path]
) -> None:
    where = f"{file}: task {number!r}"
    data = task.get("data")
    values = [v for v in data.values() if isinstance(v, str)] if isinstance(data, dict) else []
    spellings = [name for value in values for name in _names(value)]
    hits = (find_picture(name, folders) for name in spellings)
    picture = next((p for p in hits if p is not None), None)
    if picture is None:
        shown = values[0] if values else data
        found.fault(
            f"{where}: data is {shown!r}: no such picture in {folders[0]}; name its folder as "
            "labelstudio:JSON:IMAGES"
        )
        return
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list):
        found.fault(f"{where}: annotations are {str(annotations)[:40]!r}, no list")
        return
    done = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    if not done:  # skipped, or nobody's turn yet: nobody says that it shows nothing
        found.notes[UNLABELLED] += 1
        return
    row = add_file(found, picture, image_id=number)
    if row is None:
        return
    if len(done) > 1:
        found.notes["annotations of which a later one is there"] += len(done) - 1
    results = done[-1].get("result") or []
    if not isinstance(results, list):
        found.fault(f"{where}: result is {str(results)[:40]!r}, no list")
        return
    for i, result in enumerate(results):
        _add_result(found, row, result, f"{where}: result {i}")


def _names(value: str) -> list[str]:
    """What the file of a task may be called here."""
    try:
        address = urlsplit(value)
    except ValueError:  # a text of another field
        return []
    local = parse_qs(address.query).get("d", [])
    path = unquote(local[0] if local else address.path)
    base = re.split(r"[\\/]", path)[-1]
    return [path.lstrip("/"), base, UPLOADED.sub("", base)]


def _add_result(found: AnnotationSet, row: int, result: Any, where: str) -> None:
    kind = result.get("type") if isinstance(result, dict) else None
    if kind not in KINDS:
        found.leave_out(str(kind))
        return
    try:
        value = result["value"]
        labels = value[kind]
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise ValueError(f"{kind} are {labels!r}; one label is expected")
        if result.get("image_rotation"):
            raise ValueError(f"image_rotation is {result['image_rotation']}; turn the file instead")
        said = result.get("original_height"), result.get("original_width")
        if not check_size(found, row, said, where):
            return
        size = found.size(row)
        make = {"polygonlabels": _ring, "brushlabels": _brush, "ellipselabels": _ellipse}[kind]
        segmentation = make(value, size)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        text = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        found.fault(f"{where}: {text}; correct or delete it in Label Studio")
        return
    found.add(row, found.label(labels[0]), segmentation, where, thing_id=result.get("id"))


def _ring(value: dict[str, Any], size: Size) -> list[list[float]]:
    """Points in per cent of the sides."""
    points, sides = value["points"], (size[1], size[0])
    return [[v * side / 100 for x, y in points for v, side in zip((x, y), sides, strict=True)]]


def _brush(value: dict[str, Any], size: Size) -> dict[str, Any]:
    if value.get("format") != "rle":
        raise ValueError(f"format is {value.get('format')!r}, not 'rle'")
    return encode(decode_brush(value["rle"], size))


def _ellipse(value: dict[str, Any], size: Size) -> list[list[float]]:
    x, radius_x = value["x"] * size[1] / 100, value["radiusX"] * size[1] / 100
    y, radius_y = value["y"] * size[0] / 100, value["radiusY"] * size[0] / 100
    return [ellipse((x, y), (radius_x, radius_y), value.get("rotation") or 0)]
