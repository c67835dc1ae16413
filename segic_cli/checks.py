"""What can be wrong with arguments and shows without a heavy import."""

import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

SUFFIXES = (".pth", ".pt", ".pkl", ".bin", ".safetensors")  # of weights that are no names


class UsageError(ValueError):
    """Arguments that mean nothing: exit status 2."""


class Problems(ValueError):
    """Several things that are wrong, a line each: exit status 1."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def number(low: float = -math.inf, high: float = math.inf) -> Callable[[str], float]:
    """For argparse's ``type``: a finite number from low to high."""

    def read(text: str) -> float:
        value = float(text)
        if not math.isfinite(value) or not low <= value <= high:
            raise ValueError(text)
        return value

    limits = f" from {low:g} to {high:g}" if high < math.inf else ""
    read.__name__ = f"number{limits}"  # in argparse's message: invalid … value
    return read


def count(text: str) -> int:
    """For argparse's ``type``: a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def is_url(place: str) -> bool:
    """Whether a place is of the network, or of another scheme that a file system knows nothing
    about."""
    return "://" in place


def need_files(
    option: str, places: Iterable[str], folders: bool = False, web: bool = False
) -> None:
    """FileNotFoundError names all of an option's files that are missing. ``folders``: a folder will
    do too; ``web``: an http(s) address will, which is not looked up. UsageError names an address
    that will not."""
    places = list(dict.fromkeys(places))
    for place in filter(is_url, places):
        if not web:
            raise UsageError(f"{option} {place}: a file of this machine is asked for")
        if not place.lower().startswith(("http://", "https://")):
            raise UsageError(f"{option} {place}: of addresses, only http:// and https:// are read")
    missing = [
        place
        for place in places
        if not (is_url(place) or os.path.isfile(place) or (folders and os.path.isdir(place)))
    ]
    if missing:
        raise FileNotFoundError(f"{option}: no such file: {', '.join(missing)}")


def need_weights(weights: str | None) -> None:
    """FileNotFoundError: --weights names a file that is missing; names are not looked up."""
    if weights and weights.endswith(SUFFIXES) and not is_url(weights):
        need_files("--weights", [weights])


def need_pairs(opts: Sequence[str]) -> None:
    """UsageError: --opts has a key without a value."""
    if len(opts) % 2:
        raise UsageError(f"--opts {' '.join(opts)}: expected KEY VALUE pairs")


def need_folder(option: str, folder: str | Path) -> None:
    """OSError: results cannot be written into a folder, which need not be there."""
    path = Path(folder).absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        raise NotADirectoryError(f"{option} {folder}: {path} is no folder")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(f"{option} {folder}: {path} cannot be written")


def need_own(option: str, file: str, keys: set[str]) -> None:
    """UsageError: a JSON file for results is there already and has not the keys of earlier results,
    which alone are written over."""
    if not os.path.lexists(file):
        return
    try:
        with open(file, encoding="utf-8") as content:
            found = json.load(content)
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not keys <= set(found):
        raise UsageError(
            f"{option} {file}: it is there already and holds no results of this command, which "
            "alone are written over; give another name"
        )
