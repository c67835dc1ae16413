"""Feature maps of a frozen backbone on disk (``INPUT.FEATURE_CACHE``).

A map is found by what determines it, not by the pixels (as in ``MODEL.SEGIC.FEATURE_MEMORY``), so a
hit saves the decoding of the picture too. The model's identity names a folder; the file name is a
hash of the picture's path, size and modification time, and of what every transform did to it.

Each map is one safetensors file with its key and a checksum. A file appears by renaming, so no
process reads half of one, and it is never written again. A file that is torn or not ours is removed
and counts as missing, and so does one that another process removes.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import numbers
import os
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import PIL
import torch
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager
from fvcore.transforms.transform import TransformList
from safetensors.torch import load, save

from ...structures.picture import SAME_SIZE
from ...utils.files import AnyPath, locked, write_whole
from ...utils.remote import first_line

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "float32": torch.float32}
SUFFIX = ".safetensors"
_FULL = 0.9  # share of the bound that is left after making room, so that it is made rarely
_ABANDONED = 3600  # s, after which an unfinished file belongs to nobody


class FeatureCache:
    """Feature maps (C, g, g) of one model in a folder that any number of processes may share.

    The folder (``INPUT.FEATURE_CACHE.DIR``) is made if it does not exist. ``max_gb``, 10⁹ bytes,
    bounds all files in it, of any model; the least recently used leave. ``identity`` is what the
    maps depend on besides the picture (``open_feature_cache``). ValueError: the folder cannot be
    written.
    """

    def __init__(
        self, folder: AnyPath, max_gb: float, identity: Mapping[str, Any], dtype: str = "float16"
    ) -> None:
        self.dtype, self.limit = DTYPES[dtype], int(max_gb * 1e9)
        self.root = Path(folder).expanduser().absolute()
        # another Pillow may decode or resize to other pixels
        identity = json.dumps({**identity, "dtype": dtype, "pillow": PIL.__version__}, indent=1)
        self.folder = self.root / _digest(identity)[:16]
        try:
            write_whole(self.folder / "identity.json", identity, shared=True)
            with locked(self.root / "size"):
                self._make_room(0, recount=True)
        except OSError as error:
            raise ValueError(
                f"INPUT.FEATURE_CACHE.DIR {str(folder)!r} cannot be written: {error}"
            ) from error

    def key(self, file_name: AnyPath, transforms: TransformList) -> str:
        """What determines a view, as text. FileNotFoundError: naming the picture; TypeError: naming
        a transform that does not tell what it does."""
        local = PathManager.get_local_path(str(file_name))
        try:
            stat = os.stat(local)
        except FileNotFoundError:
            raise FileNotFoundError(f"no such image file: {file_name}") from None
        steps = [_describe(t) for t in _that_change(transforms.transforms)]
        return json.dumps([os.path.abspath(local), stat.st_size, stat.st_mtime_ns, steps])

    def get(self, key: str) -> torch.Tensor | None:
        """The map (C, g, g) under a key, or None; what is unreadable is removed."""
        path = self._path(key)
        try:
            features = _read(path, key, self.folder.name)
            if features.ndim != 3 or features.dtype != self.dtype:
                raise ValueError(f"it holds {features.dtype} {tuple(features.shape)}")
        except FileNotFoundError:
            return None
        except Exception as error:  # noqa: BLE001  whatever lies there
            logger.warning("%s is no feature map (%s): made anew", path, first_line(error))
            with contextlib.suppress(OSError):  # a folder, or not ours to remove
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # another process has just removed it
            os.utime(path)  # recently used
        return features

    def put(self, key: str, features: torch.Tensor) -> None:
        """Keep a map (C, g, g) on the CPU, of the cache's dtype, if there is room for it."""
        path = self._path(key)
        if path.exists():
            return
        features = features.contiguous()
        checksum = str(zlib.crc32(features.view(-1).view(torch.uint8).numpy()))
        about = {"key": key, "model": self.folder.name, "crc32": checksum}
        data = save({"features": features}, about)
        if len(data) > self.limit:
            return
        try:
            with locked(self.root / "size"):
                self._make_room(len(data))
            write_whole(path, data, shared=True)
        except OSError as error:  # a full disk must not end a training
            logger.warning("%s is not kept: %s", path, error)

    def _path(self, key):
        name = _digest(key)
        return self.folder / name[:2] / (name + SUFFIX)

    def _make_room(self, size, recount=False):
        """Count ``size`` more bytes; a process that dies leaves the total too high, never low."""
        counter = self.root / "size"
        try:
            total = int(counter.read_text())
        except (FileNotFoundError, ValueError):
            recount, total = True, 0
        if recount or total < 0 or total + size > self.limit:
            total = self._remove_oldest(size)
        write_whole(counter, str(total + size))

    def _remove_oldest(self, size):
        """Remove the least recently used maps if ``size`` more bytes do not fit; the bytes left."""
        files, total = [], 0
        for path in self.root.glob(f"*/*/*{SUFFIX}"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
                total += stat.st_size
        for path in self.root.glob("*/*/*.part"):
            with contextlib.suppress(OSError):
                # also where a clock was wrong
                if abs(time.time() - path.stat().st_mtime) > _ABANDONED:
                    path.unlink()
                else:
                    total += path.stat().st_size
        if total + size <= self.limit:
            return total
        for _, freed, path in sorted(files):
            if total + size <= _FULL * self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                total -= freed
        return total


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _read(path, key, model):
    """Read a map; ValueError if its key, model or checksum is wrong, and others."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + length])["__metadata__"]
    if (about["key"], about["model"]) != (key, model):
        raise ValueError("another view's or model's features")
    if int(about["crc32"]) != zlib.crc32(memoryview(data)[8 + length :]):
        raise ValueError("torn: wrong checksum")
    return load(data)["features"]


def _that_change(steps):
    """The transforms that change a picture; so cropping or not, a whole picture has one map."""
    size = None  # (h, w), where it is known
    for step in steps:
        if isinstance(step, T.NoOpTransform):
            continue
        if isinstance(step, T.CropTransform):
            if (step.h, step.w) == size:
                continue
            size = step.h, step.w
        elif hasattr(step, "new_h"):
            size = step.new_h, step.new_w
        elif not isinstance(step, SAME_SIZE):
            size = None
        yield step


def _describe(transform):
    """A transform in words: its class and its numbers."""
    parts = []
    for name, value in sorted(vars(transform).items()):
        if isinstance(value, numbers.Number):
            value = value.item() if hasattr(value, "item") else value
            parts.append(f"{name}={value + 0!r}")  # enumerations as their numbers
        elif value is None or isinstance(value, str) or dataclasses.is_dataclass(value):
            parts.append(f"{name}={value!r}")
        else:
            raise TypeError(
                f"INPUT.FEATURE_CACHE: {type(transform).__name__} does not tell what it does to a "
                f"picture; its {name} is a {type(value).__name__}"
            )
    return f"{type(transform).__name__}({', '.join(parts)})"
