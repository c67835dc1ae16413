"""Which values each label map holds, read once and remembered in the user's cache folder."""

import hashlib
import json
import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock

from .image_io import read_label_map

logger = logging.getLogger(__name__)


def cache_folder():
    """``$SEGIC_D2_CACHE``, or segic_d2's folder in ``$XDG_CACHE_HOME`` (default ``~/.cache``)."""
    if os.environ.get("SEGIC_D2_CACHE"):
        return Path(os.environ["SEGIC_D2_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segic_d2"


def label_values(files):
    """The distinct values of each label map, as a list of ascending ints per file.

    Reading tens of thousands of maps takes minutes, so the answer is kept in the cache folder
    under a hash of the names, sizes and modification times of the files.
    """
    stats = []
    for file in files:
        stat = os.stat(PathManager.get_local_path(str(file)))
        stats.append((str(file), stat.st_size, stat.st_mtime_ns))
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]
    path = cache_folder() / "label_values" / f"{key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(path)):  # of several processes one reads, the others wait
            return _cached_values(path, files)
    except PermissionError as error:
        logger.warning("no label index is kept, the cache cannot be written: %s", error)
        return _read_values(files)


def _cached_values(path, files):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        values = _read_values(files)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(values, file)
    os.replace(temporary, path)
    return values


def _read_values(files):
    logger.info("reading %d label maps once, to learn which classes they show", len(files))

    def values(file):
        ids = read_label_map(file)
        if ids.min() < 0 or ids.max() >= 2**16:
            return np.unique(ids).tolist()
        return np.flatnonzero(np.bincount(ids.ravel())).tolist()

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the GIL
        return list(pool.map(values, files))
