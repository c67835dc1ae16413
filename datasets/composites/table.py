"""Reviewed tables of the objects and backgrounds that the composites are made of.

``objects.csv``, a row per object: category, supercategory, split ("train" or "novel",
the same for all objects of a category), source ("stamps": a photograph with an alpha channel;
"models": a 3D model that is rendered), file, sha256. ``backgrounds.csv``, a row per
photograph: package, file, sha256, and the categories that it shows, of which no object is put in
front of it.
Both list only what was looked at; drawings, glass and things with a rest of their ground are left
out. No image stands in this repository.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

OBJECTS = Path(__file__).with_name("objects.csv")
BACKGROUNDS = Path(__file__).with_name("backgrounds.csv")
SOURCES = ("stamps", "models")
SPLITS = ("train", "novel")


@dataclass(frozen=True)
class Object:
    """One thing that can be shown again; ``number`` is its place in the table, from 0."""

    number: int
    category: str
    supercategory: str
    split: str
    source: str
    file: str
    sha256: str

    @property
    def name(self):
        """The category and the file's stem, which tell it from the category's other objects."""
        return f"{self.category}: {Path(self.file).stem}"


@dataclass(frozen=True)
class Background:
    """A photograph to put things in front of; "archive.rcc#3" is the fourth WebP picture in it."""

    package: str
    file: str
    sha256: str
    shows: frozenset = field(default_factory=frozenset)


def rows(path, needed):
    """Yield (line number, dict of text) of a CSV file; ValueError names it and what it lacks."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [key for key in needed if key not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}")
        for row in reader:
            if any(row[key] is None for key in needed):
                raise ValueError(f"{path}, line {reader.line_num}: too few columns")
            yield reader.line_num, row


def read_objects(path=OBJECTS):
    """Read the objects of a table, in its order.

    Raises:
        ValueError: the table, whose file and line are named, has an unknown split or source, a
            category with two splits or supercategories, or an object that stands there twice.
    """
    objects, about, files = [], {}, set()
    needed = ("category", "supercategory", "split", "source", "file", "sha256")
    for line, row in rows(path, needed):
        where = f"{path}, line {line}"
        for key, known in (("split", SPLITS), ("source", SOURCES)):
            if row[key] not in known:
                raise ValueError(f"{where}: {key} is {row[key]!r}, not one of {known}")
        same = about.setdefault(row["category"], (row["supercategory"], row["split"]))
        if same != (row["supercategory"], row["split"]):
            raise ValueError(f"{where}: {row['category']!r} was {same} before")
        if (row["source"], row["file"]) in files:
            raise ValueError(f"{where}: {row['file']} stands in the table twice")
        files.add((row["source"], row["file"]))
        objects.append(Object(len(objects), *(row[key] for key in needed)))
    if not objects:
        raise ValueError(f"{path} lists no object")
    return objects


def read_backgrounds(path=BACKGROUNDS):
    """Read the backgrounds of a table, in its order.

    Raises:
        ValueError: the file, which is named, lacks a column or has no row.
    """
    needed = ("package", "file", "sha256", "shows")
    found = [
        Background(
            row["package"],
            row["file"],
            row["sha256"],
            frozenset(filter(None, row["shows"].split(";"))),
        )
        for _, row in rows(path, needed)
    ]
    if not found:
        raise ValueError(f"{path} lists no background")
    return found


def categories_of(objects):
    """Categories of some objects as a sorted list of (name, supercategory)."""
    return sorted({(o.category, o.supercategory) for o in objects})


def objects_of_split(objects, split):
    """The objects that the scenes of a split are about.

    If a category of training has four objects or more, every fourth is held out. "seen" shows
    those, and of other categories the objects of training. "novel" has categories of its own.
    "choice_train" is as "train"; "choice_val" shows all that training never does.
    """
    if split.startswith("choice_"):
        train = objects_of_split(objects, "train")
        known = {o.number for o in train}
        return train if split == "choice_train" else [o for o in objects if o.number not in known]
    if split == "novel":
        return [o for o in objects if o.split == "novel"]
    groups = {}
    for o in objects:
        if o.split == "train":
            groups.setdefault(o.category, []).append(o)
    chosen = []
    for group in groups.values():
        held_out = group[3::4]
        trained = [o for o in group if o not in held_out]
        chosen += trained if split == "train" else (held_out or trained)
    return sorted(chosen, key=lambda o: o.number)
