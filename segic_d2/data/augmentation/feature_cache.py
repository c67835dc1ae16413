"""Feature maps of a frozen backbone on disk (``INPUT.FEATURE_CACHE``).

A map is found by what determines it, not by the pixels, so a hit saves the decoding of the picture
too. The model's identity names a folder. The file name is a hash of the picture's path, size and
modification time, and of what every transform did to it. So a changed file, or another backbone,
tap, canvas or crop, is another map. (``MODEL.SEGIC.FEATURE_MEMORY`` keeps maps in the memory of one
process and finds them by the pixels: it needs no files, but saves no decoding.)

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
import tempfile
import time
import zlib
from pathlib import Path

import PIL
import torch
from detectron2.data import transforms as T
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock
from safetensors import SafetensorError
from safetensors.torch import load, save

from ...structures.picture import SAME_SIZE

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "float32": torch.float32}
SUFFIX = ".safetensors"
_FULL = 0.9  # share of the bound that is left after making room, so that it is made rarely
_ABANDONED = 3600  # s, after which an unfinished file belongs to nobody


class FeatureCache:
    """Feature maps (C, g, g) of one model in a folder that any number of processes may share.

    Args:
        folder: ``INPUT.FEATURE_CACHE.DIR``; made if it does not exist.
        max_gb: bound on all files in it, of any model, 10⁹ bytes; the least recently used leave.
        identity: dict of what the maps depend on besides the picture; see ``open_feature_cache``.
        dtype: "float16" or "float32".

    Raises:
        ValueError: naming the key of the config, if the folder cannot be written, the bound is not
            positive or the type is another.
    """

    def __init__(self, folder, max_gb, identity, dtype="float16"):
        if dtype not in DTYPES:
            raise ValueError(
                f"INPUT.FEATURE_CACHE.DTYPE is {dtype!r}; it must be one of {tuple(DTYPES)}"
            )
        if not max_gb > 0:
            raise ValueError(f"INPUT.FEATURE_CACHE.MAX_GB is {max_gb}; it must be positive")
        self.dtype, self.limit = DTYPES[dtype], int(max_gb * 1e9)
        self.root = Path(folder).expanduser().absolute()
        # another Pillow may decode or resize to other pixels
        identity = json.dumps({**identity, "dtype": dtype, "pillow": PIL.__version__}, indent=1)
        self.folder = self.root / _digest(identity)[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self.folder / "identity.json", identity.encode())
            with file_lock(str(self.root / "size")):
                self._make_room(0, recount=True)
        except OSError as error:
            raise ValueError(
                f"INPUT.FEATURE_CACHE.DIR {str(folder)!r} cannot be written: {error}"
            ) from error

    def key(self, file_name, transforms):
        """The key of a view: what determines it, as text.

        Raises:
            FileNotFoundError: naming the picture.
            TypeError: naming a transform that does not tell what it does.
        """
        local = PathManager.get_local_path(str(file_name))
        try:
            stat = os.stat(local)
        except FileNotFoundError:
            raise FileNotFoundError(f"no such image file: {file_name}") from None
        steps = [_describe(t) for t in _that_change(transforms.transforms)]
        return json.dumps([os.path.abspath(local), stat.st_size, stat.st_mtime_ns, steps])

    def get(self, key):
        """The map (C, g, g) under a key, or None; what is unreadable is removed."""
        path = self._path(key)
        try:
            features = _read(path, key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            logger.warning("%s is no feature map (%s): made anew", path, error)
            path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):  # another process has just removed it
            os.utime(path)  # recently used
        return features

    def put(self, key, features):
        """Keep a map (C, g, g) on the CPU, of the cache's dtype, if there is room for it."""
        path = self._path(key)
        if path.exists():
            return
        features = features.contiguous()
        checksum = str(zlib.crc32(features.view(-1).view(torch.uint8).numpy()))
        data = save({"features": features}, {"key": key, "crc32": checksum})
        if len(data) > self.limit:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(str(self.root / "size")):
                self._make_room(len(data))
            self._write(path, data)
        except OSError as error:  # a full disk must not end a training
            logger.warning("%s is not kept: %s", path, error)

    def _path(self, key):
        name = _digest(key)
        return self.folder / name[:2] / (name + SUFFIX)

    def _write(self, path, data):
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _make_room(self, size, recount=False):
        """Add ``size`` bytes to the total in the file "size", under its lock; remove old maps first
        if that is too much. A process that dies in between leaves the total too high, never low."""
        counter = self.root / "size"
        try:
            total = int(counter.read_text())
        except (FileNotFoundError, ValueError):
            recount = True
        if recount or total + size > self.limit:
            total = self._remove_oldest(size)
        self._write(counter, str(total + size).encode())

    def _remove_oldest(self, size):
        """Remove the least recently used maps if ``size`` more bytes do not fit; the bytes left."""
        files, total = [], 0
        for path in self.root.glob(f"*/*/*{SUFFIX}"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            files.append((stat.st_mtime_ns, stat.st_size, path))
            total += stat.st_size
        for path in self.root.glob("*/*/*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > _ABANDONED:
                    path.unlink()
                else:
                    total += path.stat().st_size
            except FileNotFoundError:
                continue
        if total + size <= self.limit:
            return total
        for _, freed, path in sorted(files):
            if total + size <= _FULL * self.limit:
                break
            path.unlink(missing_ok=True)
            total -= freed
        return total


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _read(path, key):
    """Read a map; ValueError or LookupError if its key or checksum is wrong."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + length])["__metadata__"]
    if about["key"] != key:
        raise ValueError("another view's features")
    if int(about["crc32"]) != zlib.crc32(memoryview(data)[8 + length :]):
        raise ValueError("torn: wrong checksum")
    return load(data)["features"]


def _that_change(steps):
    """Yield the transforms that change a picture.

    So training, which may crop, and evaluation, which does not, share the map of a whole picture.
    """
    size = None  # (h, w), where it is known
    for step in steps:
        if isinstance(step, T.NoOpTransform):
            continue
        if isinstance(step, T.CropTransform) and (step.h, step.w) == size:
            continue
        if isinstance(step, T.CropTransform):
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
