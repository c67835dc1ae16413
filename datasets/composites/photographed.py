"""Reviewed tables of photographs, and of the things that were cut out of them.

``photographs.csv``, a row per photograph: by ("apt", "pip" or "npm"), package, version, licence,
file, sha256. ``cutouts.csv``, a row per thing: category, supercategory, split, package and file of
its photograph, crop ("left top right bottom", px), size ("width height" to which the crop is
reduced) and rle, the mask at this size in COCO's compressed form. None of the photographs stands in
this repository.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycocotools.mask
from PIL import Image

from composites.table import SPLITS, Object, rows

PHOTOGRAPHS = Path(__file__).with_name("photographs.csv")
CUTOUTS = Path(__file__).with_name("cutouts.csv")


@dataclass(frozen=True)
class Photograph:
    """A photograph in a package; "archive.rcc#3" is the fourth WebP picture in it."""

    by: str
    package: str
    version: str
    license: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Cutout(Object):
    """A thing in a photograph; its ``sha256`` is the photograph's."""

    package: str = ""
    crop: tuple = ()
    size: tuple = ()
    rle: str = ""

    @property
    def digest(self):
        """Tells this thing from all others, by its photograph, place and mask."""
        text = f"{self.sha256} {self.crop} {self.size} {self.rle}"
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def mask(self):
        """bool (h, w) at ``size``."""
        rle = {"size": list(self.size[::-1]), "counts": self.rle.encode()}
        return pycocotools.mask.decode(rle).astype(bool)

    def cut(self, data):
        """The thing with its surroundings transparent: uint8 (h, w, 4).

        Args:
            data: bytes of the photograph.
        """
        try:
            with Image.open(io.BytesIO(data)) as photograph:
                picture = photograph.convert("RGB").crop(self.crop)
        except OSError as error:
            raise ValueError(f"{self.file} is no picture that can be read: {error}") from error
        picture = picture.resize(self.size, Image.Resampling.LANCZOS)
        return np.dstack([np.asarray(picture), self.mask().astype(np.uint8) * 255])


def read_photographs(path=PHOTOGRAPHS):
    """Read the photographs of a table, in its order.

    Raises:
        ValueError: the table, which is named, lacks a column, or names a file twice.
    """
    needed = ("by", "package", "version", "license", "file", "sha256")
    found = {}
    for line, row in rows(path, needed):
        key = row["package"], row["file"]
        if key in found:
            raise ValueError(f"{path}, line {line}: {row['file']} stands in the table twice")
        if row["by"] not in ("apt", "pip", "npm"):
            raise ValueError(f"{path}, line {line}: by is {row['by']!r}, not apt, pip or npm")
        found[key] = Photograph(*(row[k] for k in needed))
    return list(found.values())


def read_cutouts(objects, photographs=None, path=CUTOUTS):
    """Read the things of a table, numbered on from those of ``objects``.

    Args:
        objects: of ``composites.table``; a category that both tables have is the same there.
        photographs: None: those of ``read_photographs``.

    Raises:
        ValueError: naming file and line: an unknown split or photograph, a category that is
            of another split or supercategory before.
    """
    known = {(p.package, p.file): p for p in (photographs or read_photographs())}
    about = {o.category: (o.supercategory, o.split) for o in objects}
    needed = ("category", "supercategory", "split", "package", "file", "crop", "size", "rle")
    found = []
    for line, row in rows(path, needed):
        where = f"{path}, line {line}"
        if row["split"] not in SPLITS:
            raise ValueError(f"{where}: split is {row['split']!r}, not one of {SPLITS}")
        same = about.setdefault(row["category"], (row["supercategory"], row["split"]))
        if same != (row["supercategory"], row["split"]):
            raise ValueError(f"{where}: {row['category']!r} was {same} before")
        photograph = known.get((row["package"], row["file"]))
        if photograph is None:
            raise ValueError(f"{where}: {row['file']} is no photograph of {row['package']}")
        crop, size = (tuple(int(v) for v in row[k].split()) for k in ("crop", "size"))
        place = len(objects) + len(found), row["category"], row["supercategory"], row["split"]
        place += ("photographs", photograph.file, photograph.sha256)
        found.append(Cutout(*place, photograph.package, crop, size, row["rle"]))
    return found
