"""Which pictures to segment, and under which names the results are written."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TypeAlias

from ..utils.files import AnyPath
from .formats import pictures_among

Free: TypeAlias = Callable[[str], bool]  # whether a file name may be used


def list_pictures(inputs: Iterable[AnyPath], leave_out: AnyPath | None = None) -> list[Path | str]:
    """Files and addresses (SCHEME://…) as given, and the pictures in folders and their subfolders,
    sorted; each once.

    That a file is missing shows when it is read; a folder without pictures is a ValueError. Hidden
    files and folders, and the folder ``leave_out``, where the results go, are not searched. The log
    counts the pictures that this installation cannot read (``pictures_among``).
    """
    found: dict[Path | str, Path | str] = {}
    left_out = Path(leave_out).resolve() if leave_out is not None else None

    def wanted(file: Path, folder: Path) -> bool:
        hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
        return not hidden and file.is_file() and left_out not in file.resolve().parents

    for given in inputs:
        if "://" in str(given):
            found.setdefault(str(given), str(given))
            continue
        files = [path := Path(given)]
        if path.is_dir():
            files = pictures_among(sorted(f for f in path.rglob("*") if wanted(f, path)))
            if not files:
                own = left_out is not None and left_out in (here := path.resolve(), *here.parents)
                why = f" but results, which go to {leave_out} and are not searched" if own else ""
                raise ValueError(f"no pictures in the folder {path}{why}")
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def distinct_stems(paths: Sequence[AnyPath]) -> list[str]:
    """One name per file: its stem, or where several share it, more of its path or a number.

    Names that differ in upper and lower case alone count as the same, as on many file systems.
    """
    stems = [safe_name(Path(p).stem) for p in paths]
    uses = Counter(s.casefold() for s in stems)
    taken = {s for s, n in uses.items() if n == 1}
    names = []
    for path, stem in zip(map(Path, paths), stems, strict=True):
        if uses[stem.casefold()] > 1:
            parent = safe_name(f"{path.resolve().parent.name}_{stem}")
            stem = _first_free([parent, f"{parent}_{path.suffix[1:]}"], taken)
        names.append(stem)
    return names


class FileNames:
    """Hands out file names, no name twice, and none of ``taken``; asked in the same order it gives
    the same names."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {name.casefold() for name in taken}

    def take(self, stem: str, label: str, suffix: str, free: Free = lambda name: True) -> str:
        """``stem_label.suffix``, or ``stem_label_2.suffix``, … where that is taken or not
        ``free``."""
        return _first_free([safe_name(f"{stem}_{label}")], self._taken, suffix, free)


def _first_free(
    candidates: Sequence[str], taken: set[str], suffix: str = "", free: Free = lambda name: True
) -> str:
    """The first name that is free and not taken, the last numbered if none is; it is taken then."""
    numbered = (f"{candidates[-1]}_{number}" for number in count(2))
    names = (f"{name}{suffix}" for name in chain(candidates, numbered))
    name = next(name for name in names if name.casefold() not in taken and free(name))
    taken.add(name.casefold())
    return name


def safe_name(text: str) -> str:
    """A text as part of a file name: letters, digits, ``.``, ``-`` and ``_``, at most 80, and at
    most 200 bytes, as file systems count."""
    short = re.sub(r"[^\w.-]+", "_", text).strip("._")[:80]
    return short.encode()[:200].decode(errors="ignore") or "unnamed"
