"""COCO's file, written picture by picture, so that it may be larger than the memory."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pycocotools.mask as mask_util

from ...utils.files import whole_file
from ..rle import decode, encode
from .outline import joined_rings
from .records import Annotated, Thing

KEYS = ("images", "annotations", "categories")


def write_file(
    file: Path, pictures: Sequence[Annotated], places: list[Path], tolerance: float | None
) -> None:
    """Write pictures, which are copied to ``places``, and their things; see ``coco.write``."""
    names = pictures[0].names if pictures else []
    categories = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    images = (_image(i, *both) for i, both in _numbered(pictures, places))
    rows = (
        (i, picture, thing)
        for i, (picture, _) in _numbered(pictures, places)
        for thing in picture.things
    )
    annotations = (_annotation(n, *row, tolerance) for n, row in enumerate(rows, 1))
    with whole_file(file) as part, open(part, "w") as out:
        for key, values, start in zip(KEYS, (images, annotations, categories), "{,,", strict=True):
            out.write(f'{start}"{key}": [')
            for i, value in enumerate(values):
                out.write(f"{', ' if i else ''}{json.dumps(value)}")
            out.write("]")
        out.write("}")


def _numbered(pictures: Sequence[Annotated], places: list[Path]) -> Any:
    return enumerate(zip(pictures, places, strict=True), 1)


def _image(number: int, picture: Annotated, place: Path) -> dict[str, Any]:
    height, width = picture.size
    about = {"id": number, "file_name": place.name, "height": height, "width": width}
    return about if picture.doubt is None else {**about, "doubt": picture.doubt}


def _annotation(
    number: int, image: int, picture: Annotated, thing: Thing, tolerance: float | None
) -> dict[str, Any]:
    mask = decode(thing.segmentation, *picture.size, picture.file_name)
    rle = encode(mask)
    shape: Any = rle
    if tolerance and not (picture.given or thing.crowd) and mask.any():
        shape = [ring.reshape(-1).tolist() for ring in joined_rings(mask, tolerance)]
    return {
        "id": number,
        "image_id": image,
        "category_id": thing.label + 1,
        "segmentation": shape,
        "area": int(mask_util.area(rle)),
        "bbox": mask_util.toBbox(rle).tolist(),
        "iscrowd": int(thing.crowd),
    }
