"""What the readers share: JSON, XML, and the picture that an annotation belongs to."""

import codecs
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

from ...utils.files import whole_file, write_picture
from ...utils.store import fetch, is_remote
from ..formats import IMAGE_SUFFIXES, pictures_among
from ..names import distinct_stems
from ..pictures import image_size, opened, to_rgb, upright
from .records import Annotated, AnnotationSet


def load_json(file: Path) -> Any:
    """The content of a JSON file in UTF-8, or in UTF-16 as Windows writes it. FileNotFoundError,
    ValueError: naming the file."""
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    try:
        return json.loads(text_of(file))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def load_xml(file: Path) -> ElementTree.Element:
    """The root of an XML file. FileNotFoundError; ValueError: naming the file, that is broken, in
    another encoding than ``text_of`` reads, or declares entities, which can read other files or
    grow without end."""
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {file}")
    try:
        text = text_of(file)  # whatever encoding it says
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it has a DOCTYPE, which is not read")
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def text_of(file: Path) -> str:
    """A text in UTF-8, with or without a byte order mark, or in UTF-16 with one. OSError,
    UnicodeError."""
    data = file.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig")


def lines_of(file: Path) -> list[str]:
    """The lines of a text file (``text_of``). OSError, ValueError: naming the file."""
    try:
        return text_of(file).splitlines()
    except UnicodeError as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def need_folder(folder: Path, what: str) -> Path:
    """The folder. FileNotFoundError: naming it and what belongs there."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder} ({what})")
    return folder


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and below, sorted; hidden ones are none."""
    files = (f for f in folder.rglob("*") if f.is_file() and not f.name.startswith("."))
    return sorted(pictures_among(files))


def find_picture(name: str, folders: Sequence[Path]) -> Path | None:
    """The picture of a name that a tool wrote, perhaps on Windows, in one of several folders."""
    spellings = dict.fromkeys([name, name.replace("\\", "/"), re.split(r"[\\/]", name)[-1]])
    for spelling in spellings:
        for folder in folders:
            if spelling and os.path.isfile(folder / spelling):  # False of a name that none can have
                return folder / spelling
    return None


def picture_beside(file: Path) -> Path | None:
    """The picture of a file's stem in its folder."""
    for suffix in (s for low in IMAGE_SUFFIXES for s in (low, low.upper())):
        if file.with_suffix(suffix).is_file():
            return file.with_suffix(suffix)
    return None


def add_file(found: AnnotationSet, file: Path, **about: Any) -> int | None:
    """Add a picture whose size its own header says; returns its row. A picture that cannot be read
    is a fault: None."""
    try:
        return found.add_picture(str(file), image_size(file), **about)
    except (ValueError, OSError) as error:
        found.fault(str(error))
        return None


def check_size(found: AnnotationSet, row: int, said: tuple[Any, Any], where: str) -> bool:
    """Whether (height, width) that a file says are the picture's; another size is a fault. None and
    0 say nothing."""
    file, size = found.file(row), found.size(row)
    try:
        height, width = (int(v) if v else 0 for v in said)
    except (TypeError, ValueError, OverflowError):
        found.fault(f"{where}: height and width are {said!r}, not numbers")
        return False
    if (height and height != size[0]) or (width and width != size[1]):
        found.fault(
            f"{where} is of a picture of {width}x{height} px, {file} is {size[1]}x{size[0]} px as "
            "displayed; label the picture as it is now"
        )
        return False
    return True


def start_folder(folder: Path, files: Iterable[str]) -> None:
    """FileExistsError: an annotation file is there already, which is never overwritten."""
    for name in files:
        if (folder / name).exists():
            raise FileExistsError(f"{folder / name} is there already; give another folder")


def copy_pictures(pictures: Sequence[Annotated], folder: Path) -> list[Path]:
    """Copy the pictures into a folder, each under a name of its own; returns where they are. One
    that came from the web is written as it is displayed, as PNG."""
    places = []
    stems = distinct_stems([p.file_name for p in pictures])
    for picture, stem in zip(pictures, stems, strict=True):
        source = Path(picture.file_name)
        remote = is_remote(picture.file_name)
        local = not remote and source.is_file()
        place = folder / f"{stem}{source.suffix if local or remote else '.png'}"
        if place.exists() and (not local or not place.samefile(source)):
            raise FileExistsError(f"{place} is there already; give another folder")
        if not place.exists():
            if remote:
                with TemporaryDirectory() as here, whole_file(place) as part:
                    shutil.copyfile(fetch(picture.file_name, here), part)
            elif local:
                with whole_file(place) as part:
                    shutil.copyfile(source, part)
            else:
                with opened(picture.file_name) as image:
                    write_picture(place, to_rgb(upright(image)))
        places.append(place)
    return places
