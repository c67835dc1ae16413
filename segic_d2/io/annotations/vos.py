"""Video object segmentation (DAVIS, YouTube-VOS): a folder of frames, and one of maps, for each
sequence::

    root/JPEGImages/<sequence>/00000.jpg    or JPEGImages/480p/<sequence>/…
    root/Annotations/<sequence>/00000.png   palette or grey, 0 background, 1… the objects
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..masks import VOID_16
from ..pictures import image_size
from ..rle import encode
from .files import need_folder, pictures_in
from .records import AnnotationSet, read_map
from .registry import ANNOTATION_REGISTRY

VOID = 255
logger = logging.getLogger(__name__)


class Clip(NamedTuple):
    """A sequence: its name, its frames in order, and for each its map or None."""

    name: str
    frames: list[Path]
    maps: list[Path | None]


@ANNOTATION_REGISTRY.register()
class vos:  # the name of the format
    """``vos:FOLDER``."""

    @staticmethod
    def read(place: str) -> AnnotationSet:
        """Read the frames that have a map. An object of a sequence is a class, "dog 1", which its
        other frames show. Where all maps have 0 and 255 alone, as DAVIS 2016's, 255 is an object,
        else it is ignored. Every map is read, some milliseconds each."""
        found = _read(place, VOID)
        if not found.names and not found.faults:
            found = _read(place, None)
            if found.names:
                logger.warning("%s: its maps show 0 and 255 alone: 255 is an object", place)
        return found


def _read(place: str, void: int | None) -> AnnotationSet:
    found = AnnotationSet(place)
    for clip in sequences(Path(place)):
        for frame, file in zip(clip.frames, clip.maps, strict=True):
            if file is None:
                found.notes["frames without a map"] += 1
            else:
                _add(found, clip.name, frame, file, void)
    return found


def sequences(root: Path) -> Iterator[Clip]:
    """Yield the sequences of a folder, by name. FileNotFoundError: naming the folder that is
    missing, or has no sequence."""
    images = _inner(need_folder(root / "JPEGImages", "a folder of frames for each sequence"))
    maps = _inner(need_folder(root / "Annotations", "a folder of maps for each sequence"))
    folders = sorted(d for d in images.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not folders:
        raise FileNotFoundError(f"no folder of frames in {images}")
    for folder in folders:
        frames = pictures_in(folder)
        files = [maps / folder.name / f"{frame.stem}.png" for frame in frames]
        yield Clip(folder.name, frames, [f if f.is_file() else None for f in files])


def _inner(folder: Path) -> Path:
    """DAVIS has a folder of the resolution in between."""
    return next((folder / n for n in ("480p", "Full-Resolution") if (folder / n).is_dir()), folder)


def _add(found: AnnotationSet, sequence: str, frame: Path, file: Path, void: int | None) -> None:
    try:
        size = image_size(frame)
        labels = read_map(str(file), size, str(frame))
    except (ValueError, OSError) as error:
        found.fault(str(error))
        return
    row = found.add_picture(str(frame), size)
    for value in np.unique(labels).tolist():
        if value not in (0, void, VOID_16):
            label = found.label(f"{sequence} {1 if value == VOID else value}")
            found.add(row, label, encode(labels == value), str(file), thing_id=value)
