"""Folders on this machine and on others (s3://, gs://, hdfs://, …), by fsspec."""

import os
from pathlib import Path
from typing import Any

from .files import AnyPath, write_whole
from .remote import first_line, is_web_address


def is_remote(place: AnyPath) -> bool:
    """Whether a path is of another file system, such as s3://bucket/cats; http(s) is none."""
    return "://" in str(place) and not is_web_address(str(place))


def open_remote(place: str) -> tuple[Any, str]:
    """fsspec's file system of a place, and the path there. ImportError, ValueError, naming the
    place: its package is missing (s3fs, gcsfs, …), or there is no such kind."""
    from fsspec.core import url_to_fs

    try:
        return url_to_fs(place)
    except ImportError as error:
        raise ImportError(f"{place}: {first_line(error)}") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{place}: {first_line(error)}") from error


def files_below(place: str) -> list[str]:
    """The files in a folder of another machine and below, sorted, with the scheme; hidden ones are
    none. FileNotFoundError: nothing is there."""
    system, root = open_remote(place)
    files = [f for f in system.find(root) if "/." not in f[len(root) :]]
    if not files:
        raise FileNotFoundError(f"no files in {place}")
    return sorted(system.unstrip_protocol(f) for f in files)


def fetch(place: str, folder: AnyPath) -> Path:
    """A file of another machine as a file of this one, in ``folder``. FileNotFoundError, OSError:
    naming it."""
    system, path = open_remote(place)
    target = Path(folder) / path.rpartition("/")[2]
    try:
        system.get_file(path, str(target))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such file: {place}") from error
    return target


class Store:
    """The files of a folder by name, each written whole or not at all."""

    def __init__(self, place: AnyPath) -> None:
        self.place, self._system = os.fspath(place).rstrip("/"), None
        if is_remote(place):
            self._system, root = open_remote(self.place)
            self._root = root.rstrip("/")

    @property
    def remote(self) -> bool:
        """Whether it is on another machine."""
        return self._system is not None

    def path(self, name: str) -> str:
        """Where a file is."""
        return f"{self.place}/{name}"

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        if self._system is None:
            return os.path.exists(self.path(name))
        return self._system.exists(f"{self._root}/{name}")

    def read(self, name: str) -> bytes:
        """What a file holds. OSError: there is none."""
        if self._system is None:
            return Path(self.path(name)).read_bytes()
        return self._system.cat_file(f"{self._root}/{name}")

    def write(self, name: str, data: bytes | str) -> None:
        """Write a file, text as UTF-8, over an earlier one."""
        if self._system is None:
            return write_whole(self.path(name), data)
        path = f"{self._root}/{name}"
        self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._system.pipe_file(path, data.encode() if isinstance(data, str) else data)

    def remove(self, name: str) -> None:
        """Remove a file. OSError: there is none."""
        if self._system is None:
            return Path(self.path(name)).unlink()
        self._system.rm_file(f"{self._root}/{name}")

    def names(self, folder: str) -> list[str]:
        """The names of the files of a folder, sorted; none where it is missing."""
        if self._system is None:
            place = Path(self.path(folder))
            return sorted(f.name for f in place.iterdir()) if place.is_dir() else []
        path = f"{self._root}/{folder}"
        found = self._system.ls(path, detail=False) if self._system.exists(path) else []
        return sorted(f.rstrip("/").rpartition("/")[2] for f in found)

    def upload(self, folder: AnyPath, name: str) -> None:
        """Copy a folder of this machine into a store of another one."""
        assert self._system is not None
        self._system.put(f"{os.fspath(folder)}/", f"{self._root}/{name}/", recursive=True)
