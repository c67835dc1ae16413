"""Files of this package. ``modeling/backbone/embedded.py`` has its own copy of this, because
``tools/setup_env.py`` loads it alone, before the package's dependencies are installed."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from iopath.common.file_io import file_lock

AnyPath: TypeAlias = str | os.PathLike[str]


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
    return Path(f"{path}.part")


@contextlib.contextmanager
def whole_file(path: AnyPath, *, sync: bool = False, shared: bool = False) -> Iterator[Path]:
    """A file that appears whole or not at all; its folder is made where it is missing. Yields the
    path of the part, which the caller writes; it is renamed at the end, and removed after an
    exception. ``sync`` waits until the disk has it, so that it survives a loss of power. With
    ``shared`` several processes may write it at once; each then has its own part."""
    part = part_of(f"{path}.{secrets.token_hex(4)}" if shared else path)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        if sync:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(
    path: AnyPath, data: bytes | str, *, sync: bool = False, shared: bool = False
) -> None:
    """Write bytes, or text as UTF-8; see ``whole_file``."""
    with whole_file(path, sync=sync, shared=shared) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)
