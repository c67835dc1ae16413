"""Files of this package. ``modeling/backbone/embedded.py`` has its own copy of this, because
``tools/setup_env.py`` loads it alone, before the package's dependencies are installed."""

import contextlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

from iopath.common.file_io import file_lock
from PIL import Image

AnyPath: TypeAlias = str | os.PathLike[str]

PART, FOLDER_PART = ".part", ".part-"  # end and begin names of what is not whole yet


def cache_folder() -> Path:
    """``$SEGIC_D2_CACHE``, or segic_d2's folder in ``$XDG_CACHE_HOME`` (default ``~/.cache``)."""
    if os.environ.get("SEGIC_D2_CACHE"):
        return Path(os.environ["SEGIC_D2_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segic_d2"


def locked(path: AnyPath) -> AbstractContextManager[object]:
    """A lock beside a path, made with its folder; the system frees it when its process dies."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return file_lock(str(path))


def part_of(path: AnyPath) -> Path:
    """Where a file is written before it is renamed."""
    return Path(f"{path}{PART}")


@contextlib.contextmanager
def whole_file(path: AnyPath, *, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """A file that appears whole or not at all; its folder is made where it is missing. Yields the
    path of the part, which the caller writes; it is renamed at the end, and removed after an
    exception. ``sync`` waits until the disk has it, so that it survives a loss of power. With
    ``shared`` several processes may write it at once; each then has its own part. A link stays one,
    its file is replaced; a device or a pipe is written as it is. An OSError names the file."""
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target) and not os.path.isdir(target):
        yield Path(path)
        return
    part = part_of(f"{target}.{secrets.token_hex(4)}" if shared else target)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        if sync:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def write_whole(
    path: AnyPath, data: bytes | memoryview | str, *, sync: bool = False, shared: bool = False
) -> None:
    """Write bytes, or text as UTF-8; see ``whole_file``."""
    with whole_file(path, sync=sync, shared=shared) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


def write_picture(
    path: AnyPath, image: Image.Image, *, shared: bool = False, **options: Any
) -> None:
    """Write a picture as the suffix of the path says; see ``whole_file``. Pillow itself takes a
    JPEG for written that the disk has only a part of. ValueError: another suffix."""
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: its suffix is of no picture format")
    encoded = io.BytesIO()
    image.save(encoded, kind, **options)
    write_whole(path, encoded.getbuffer(), shared=shared)


@contextlib.contextmanager
def whole_folder(path: AnyPath) -> Iterator[Path]:
    """A new folder that appears with all its files, or not at all; yields where they are written.
    OSError: there is a folder with files already."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{FOLDER_PART}{target.name}-", dir=target.parent
    ) as own:
        part = Path(own) / target.name
        part.mkdir()
        yield part
        os.replace(part, target)


def remove_leftovers(folder: AnyPath) -> None:
    """Remove what killed writers left in a folder and below (``whole_file``, ``whole_folder``);
    nobody else may write there."""
    place = Path(folder)
    for part in [*place.rglob(f"*{PART}"), *place.rglob(f"{FOLDER_PART}*")]:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
