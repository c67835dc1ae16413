"""The values of each label map. They are read once and kept in the user's cache folder."""

import hashlib
import json
import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import file_lock

from ...io.masks import read_label_map
from ...utils.files import cache_folder
from .damaged import ERRORS, Damaged, one_line, report

logger = logging.getLogger(__name__)


def label_values(files):
    """The distinct values of each label map, as a list of ascending ints per file.

    A damaged map is reported (``health.damaged``); where it is left out its entry is None.

    Reading tens of thousands of maps takes minutes. So the answer is kept in the cache folder,
    under a hash of the names, sizes and modification times of the files.
    """
    stats = [(str(file), *_state(file)) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]
    path = cache_folder() / "label_values" / f"{key}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(str(path)):  # of several processes one reads, the others wait
            values = _cached_values(path, files)
    except PermissionError as error:
        logger.warning("no label index is kept, the cache cannot be written: %s", error)
        values = _read_values(files)
    faults = {f: v for f, v in zip(files, values, strict=True) if isinstance(v, Exception)}
    damaged = [Damaged(str(file), one_line(error)) for file, error in faults.items()]
    report(damaged, list(faults.values()))
    return [None if isinstance(v, Exception) else v for v in values]


def _state(file):
    """Size and modification time of a file; () if it does not exist."""
    try:
        stat = os.stat(PathManager.get_local_path(str(file)))
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns


def _cached_values(path, files):
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        values = _read_values(files)
    if any(isinstance(v, Exception) for v in values):
        return values
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    with os.fdopen(handle, "w") as file:
        json.dump(values, file)
    os.replace(temporary, path)
    return values


def _read_values(files):
    logger.info("reading %d label maps once, to learn which classes they show", len(files))

    def values(file):
        try:
            ids = read_label_map(file)
        except ERRORS as error:
            return error
        if ids.min() < 0 or ids.max() >= 2**16:
            return np.unique(ids).tolist()
        return np.flatnonzero(np.bincount(ids.ravel())).tolist()

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the GIL
        return list(pool.map(values, files))
