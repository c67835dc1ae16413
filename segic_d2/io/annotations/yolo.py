"""YOLO's segmentation: a text file for each picture, a line "class x y x y …" for each thing."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ...utils.files import write_whole
from ...utils.texts import one_line
from ..rle import decode
from .files import (
    add_file,
    copy_pictures,
    find_picture,
    lines_of,
    need_folder,
    pictures_in,
    start_folder,
    text_of,
)
from .outline import joined
from .records import Annotated, AnnotationSet
from .registry import ANNOTATION_REGISTRY

SPLITS = ("train", "val", "test")
SLACK = 0.5  # shares of a side that a corner may lie outside


@ANNOTATION_REGISTRY.register()
class yolo:  # the name of the format
    """``yolo:FOLDER``, or ``yolo:FOLDER/data.yaml``."""

    files = ("data.yaml", "labels")  # that are never written over

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read a folder with ``data.yaml`` (names, train, val, test), or with ``images/``,
        ``labels/`` and ``classes.txt``. A picture without a text file shows nothing."""
        root, about = _about(Path(place))
        found = AnnotationSet(place, _names(root, about))
        named, any_lines = bool(found.names), 0
        pictures = _pictures(root, about)
        for picture, split in pictures:
            file = labels_of(picture)
            row = add_file(found, picture, split=split)
            if row is not None and file is not None:
                any_lines += read_labels(found, row, file, named)
        if any_lines and any_lines == found.notes["of boxes alone"]:
            found.fault(
                f"{place}: its {any_lines} lines are boxes (class x y width height), which are no "
                "masks: export 'segmentation' labels"
            )
        return found

    @staticmethod
    def write(pictures: Sequence[Annotated], folder: Path, tolerance: float | None = None) -> str:
        """Write ``data.yaml``, ``images/`` and ``labels/``: one polygon along the edges of the
        pixels, or within ``tolerance`` px of them, for each thing, whose parts and holes are
        joined by lines. Crowds are left out."""
        start_folder(folder, yolo.files)
        places = copy_pictures(pictures, folder / "images")
        for picture, place in zip(pictures, places, strict=True):
            lines = []
            own = None if picture.given else tolerance
            for thing in picture.things:
                mask = decode(thing.segmentation, *picture.size, picture.file_name)
                if mask.any() and not thing.crowd:
                    shares = (joined(mask, own) / picture.size[::-1]).reshape(-1)
                    lines.append(" ".join([str(thing.label), *(f"{v:.9g}" for v in shares)]))
            text = "".join(f"{line}\n" for line in lines)
            write_whole(folder / "labels" / f"{place.stem}.txt", text)
        names = dict(enumerate(pictures[0].names)) if pictures else {}
        about = {"train": "images", "val": "images", "names": names}
        text = yaml.safe_dump(about, sort_keys=False, allow_unicode=True)
        write_whole(folder / "data.yaml", text)
        return f"yolo:{folder}"


def labels_of(picture: Path) -> Path | None:
    """The text file of a picture: beside it, or in ``labels`` where it lies in ``images``."""
    parts = list(picture.parts)
    places = [picture]
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        places.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    files = (place.with_suffix(suffix) for place in places for suffix in (".txt", ".TXT"))
    return next((file for file in files if os.path.isfile(file)), None)


def read_labels(found: AnnotationSet, row: int, file: Path, named: bool) -> int:
    """Add the things of a text file to a picture; returns the number of its lines. ``named``: the
    classes are known, else they are "class 0", …"""
    height, width = found.size(row)
    try:
        text = lines_of(file)
    except (OSError, ValueError) as error:
        found.fault(str(error))
        return 0
    lines = [(i, line.split()) for i, line in enumerate(text, 1) if line.strip()]
    for number, (first, *rest) in lines:
        where = f"{file}, line {number}"
        try:
            label, shares = int(first), [float(v) for v in rest]
        except ValueError as error:
            found.fault(f"{where}: {str(error)[:80]}; expected class x y x y …")
            continue
        if label < 0 or label > 9999 or (named and label >= len(found.names)):
            found.fault(f"{where}: class is {label}, data.yaml names {len(found.names)} from 0 on")
        elif len(shares) == 4:
            found.notes["of boxes alone"] += 1
        elif any(not -SLACK <= v <= 1 + SLACK for v in shares):
            odd = next(v for v in shares if not -SLACK <= v <= 1 + SLACK)
            found.fault(f"{where}: {odd:g} is no share of a side from 0 to 1 (YOLO has no pixels)")
        else:
            while not named and label >= len(found.names):
                found.names.append(f"class {len(found.names)}")
            sides = (width, height)
            ring = [v * sides[i % 2] for i, v in enumerate(shares)]
            found.add(row, label, [ring], where, thing_id=number)
    return len(lines)


def names_beside(picture: Path) -> list[str]:
    """The class names of ``data.yaml`` or ``classes.txt`` in the folders above a picture, or []."""
    for folder in list(picture.parents)[:4]:
        if names := _names(*_about(folder)):
            return names
    return []


def _about(place: Path) -> tuple[Path, dict[str, Any]]:
    """The folder and what its ``data.yaml`` says."""
    file = place if place.is_file() else place / "data.yaml"
    if not file.is_file():
        return need_folder(place, "with data.yaml, or images/ and labels/"), {}
    try:
        about = yaml.safe_load(text_of(file))
    except Exception as error:  # its constructors fail in many ways
        raise ValueError(f"cannot read {file}: {one_line(str(error))}") from error
    if not isinstance(about, dict):
        raise ValueError(f"{file} holds no keys such as names, train and val")
    return file.parent, about


def _names(root: Path, about: dict[str, Any]) -> list[str]:
    names = about.get("names")
    if isinstance(names, dict):
        by_number = {str(number): name for number, name in names.items()}  # "0" is 0
        if set(by_number) != {str(i) for i in range(len(names))}:
            raise ValueError(f"{root}: names in data.yaml must be numbered from 0 without gaps")
        names = [by_number[str(i)] for i in range(len(names))]
    if names is None and (root / "classes.txt").is_file():
        lines = lines_of(root / "classes.txt")
        names = [line.strip() for line in "\n".join(lines).rstrip().split("\n")]
    if names is not None and not isinstance(names, list):
        raise ValueError(f"{root}: names in data.yaml are {repr(names)[:80]}, no list")
    shown = [str(name).strip() for name in names or ()]
    for i, name in enumerate(shown):
        if not name or name in shown[:i]:
            what = f"is {name!r} again" if name else "is empty"
            raise ValueError(f"{root}: the name of class {i} {what}; each needs one of its own")
    return shown


def _pictures(root: Path, about: dict[str, Any]) -> list[tuple[Path, str]]:
    """The pictures of the splits, each once."""
    found: dict[Path, str] = {}
    for split in SPLITS:
        places = about.get(split) or []
        for place in places if isinstance(places, list) else [places]:
            target = _place(root, about, str(place))
            if target is None:
                if split == "test":  # often named and not there
                    continue
                shown = repr(place)[:80]
                raise FileNotFoundError(f"{root}/data.yaml: {split} is {shown}: no such folder")
            for picture in _listed(target):
                found.setdefault(picture, split)
    if not found:
        folder = root / "images" if (root / "images").is_dir() else root
        for picture in pictures_in(folder):
            first = picture.relative_to(folder).parts[0]
            found[picture] = first if first in (*SPLITS, "valid") else ""
    if not found:
        raise FileNotFoundError(
            f"no pictures in {root}: YOLO's are in images/, or as data.yaml says"
        )
    return list(found.items())


def _place(root: Path, about: dict[str, Any], place: str) -> Path | None:
    """Where a split is: tools write paths of another machine, Roboflow one level too high. Of such
    a path the longest end that is here counts; ``images`` alone would be that of every split."""
    parts = [p for p in place.replace("\\", "/").split("/") if p not in ("", ".", "..")]
    ends = [root.joinpath(*parts[i:]) for i in range(len(parts))]
    if len(parts) > 1 and parts[-1] == "images":
        del ends[-1]
    base = root / str(about.get("path") or "")
    places = [base / place, root / place, *ends]
    return next((p for p in places if os.path.exists(p)), None)  # False of an impossible name


def _listed(place: Path) -> list[Path]:
    if place.is_dir():
        return pictures_in(place)
    names = [line.strip() for line in lines_of(place) if line.strip()]
    return [find_picture(name, [place.parent]) or place.parent / name for name in names]
