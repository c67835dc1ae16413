"""Which pictures to segment, and under which names the results are written."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from .pictures import IMAGE_SUFFIXES


def list_pictures(
    inputs: Iterable[str | os.PathLike[str]], leave_out: str | os.PathLike[str] | None = None
) -> list[Path]:
    """Files as given, and the pictures in folders and their subfolders, sorted; each once.

    Args:
        inputs: paths of files and folders. That a file is missing shows when it is read.
        leave_out: a folder that is not searched, where the results go.

    Raises:
        ValueError: naming a folder without pictures.
    """
    found: dict[Path, Path] = {}
    left_out = Path(leave_out).resolve() if leave_out is not None else None
    for path in map(Path, inputs):
        files = [path]
        if path.is_dir():
            files = sorted(
                p
                for p in path.rglob("*")
                if p.suffix.lower() in IMAGE_SUFFIXES
                and p.is_file()
                and (left_out is None or left_out not in p.resolve().parents)
            )
            if not files:
                raise ValueError(f"no pictures in the folder {path}")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def distinct_stems(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """One name per file: its stem, or where several share it, more of its path or a number.

    Names that differ in upper and lower case alone count as the same, as on many file systems.
    """
    stems = [safe_name(Path(p).stem) for p in paths]
    count = Counter(s.casefold() for s in stems)
    taken = {s for s, n in count.items() if n == 1}
    names = []
    for path, stem in zip(map(Path, paths), stems, strict=True):
        if count[stem.casefold()] > 1:
            parent = safe_name(f"{path.resolve().parent.name}_{stem}")
            stem = _first_free([parent, f"{parent}_{path.suffix[1:]}"], taken)
        names.append(stem)
    return names


class FileNames:
    """Hands out file names, no name twice; asked in the same order it gives the same names."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, stem: str, label: str, suffix: str) -> str:
        """``stem_label.suffix``, or ``stem_label_2.suffix``, … where that is taken."""
        name = safe_name(f"{stem}_{label}")
        return _first_free([f"{name}{suffix}"], self._taken, name, suffix)


def _first_free(
    candidates: Sequence[str], taken: set[str], base: str | None = None, suffix: str = ""
) -> str:
    """The first name that is not taken, numbered if all are; it is taken then."""
    base, number = base or candidates[-1], 1
    for name in candidates:
        if name.casefold() not in taken:
            break
    else:
        while name.casefold() in taken:
            number += 1
            name = f"{base}_{number}{suffix}"
    taken.add(name.casefold())
    return name


def safe_name(text: str) -> str:
    """A text as part of a file name: letters, digits, ``.``, ``-`` and ``_``, at most 80."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:80] or "unnamed"
