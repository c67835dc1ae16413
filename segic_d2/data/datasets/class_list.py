"""Class names from a text file, in the order of the labels."""

import re
from collections.abc import Sequence
from pathlib import Path

from detectron2.data import MetadataCatalog

from ...utils.files import AnyPath

NUMBERED = re.compile(r"(\d+)\s*[:\t ]\s*(\S.*)")


def read_class_list(path: AnyPath, count: int, first: str = "") -> list[str]:
    """Read class names, one per line: all plain, or all numbered from 0 or 1 as "12: name" or "12
    name".

    ``first`` is what the name of label 0 begins with, where that is known: it guards against a list
    that is one off, which would give every class the pixels of another. FileNotFoundError: naming
    the file; ValueError: naming the file and the line, or what does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file {path}: the names of the {count} classes, one per line in the order of the "
            "labels; datasets/README.md says where they come from"
        )
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    names = [line for line in lines if line]
    matches = [NUMBERED.fullmatch(name) for name in names]
    if names and all(matches):
        start = int(matches[0][1])
        for i, match in enumerate(matches):
            if start > 1 or int(match[1]) != start + i:
                raise ValueError(
                    f"{path}: expected the number {min(start, 1) + i}, not {match[0]!r}; numbers "
                    "count from 0 or 1 without gaps"
                )
        names = [match[2] for match in matches]
    if len(names) != count:
        raise ValueError(f"{path} names {len(names)} classes, the labels are 0 to {count - 1}")
    if not re.match(rf"{re.escape(first)}\b", names[0], re.IGNORECASE):
        raise ValueError(f"{path}: the first name is {names[0]!r}, but label 0 is {first!r}")
    return names


def background_ids(name: str, names: Sequence[str]) -> set[int]:
    """Ids that are never an entity: classes called "background", and ``background_label``."""
    ids = {i for i, n in enumerate(names) if str(n).lower() == "background"}
    return ids | {MetadataCatalog.get(name).get("background_label", None)} - {None}
