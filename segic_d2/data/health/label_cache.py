"""The values of each label map. They are read once and kept in the user's cache folder."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from detectron2.utils.file_io import PathManager

from ...io.masks import read_label_map
from ...utils.files import AnyPath, cache_folder, locked, write_whole
from .damaged import ERRORS, report_errors

logger = logging.getLogger(__name__)


def label_values(files: Sequence[AnyPath]) -> list[list[int] | None]:
    """The distinct values of each label map, ascending; None of a damaged map (``health.damaged``)
    that is left out. Reading tens of thousands of maps takes minutes, so the answer is kept in the
    cache folder, under a hash of the names, sizes and modification times of the files."""
    stats = [(str(file), *file_state(file)) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]
    path = cache_folder() / "label_values" / f"{key}.json"
    try:
        with locked(path):  # of several processes one reads, the others wait
            values = _cached_values(path, files)
    except OSError as error:
        logger.warning("no label index is kept, the cache cannot be written: %s", error)
        values = _read_values(files)
    faults = {f: v for f, v in zip(files, values, strict=True) if isinstance(v, Exception)}
    report_errors(faults)
    return [None if isinstance(v, Exception) else v for v in values]


def file_state(file: AnyPath) -> tuple[int, ...]:
    """Size and modification time of a file; () if it does not exist."""
    try:
        stat = os.stat(PathManager.get_local_path(str(file)))
    except OSError:
        return ()
    return stat.st_size, stat.st_mtime_ns


def _cached_values(path, files):
    try:
        values = json.loads(path.read_text())
        if len(values) == len(files) and all(type(i) is int for v in values for i in v):
            return values
    except (OSError, ValueError, TypeError, RecursionError):  # none yet, or not ours
        pass
    values = _read_values(files)
    if not any(isinstance(v, Exception) for v in values):
        try:
            write_whole(path, json.dumps(values))
        except OSError as error:  # a full disk must not end a run, nor read everything again
            logger.warning("no label index is kept: %s", error)
    return values


def _read_values(files):
    logger.info("reading %d label maps once, to learn which classes they show", len(files))

    def values(file):
        try:
            ids = read_label_map(file)
        except ERRORS as error:
            return error
        if ids.max() >= 2**16:
            return np.unique(ids).tolist()
        return np.flatnonzero(np.bincount(ids.ravel())).tolist()

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside the GIL
        return list(pool.map(values, files))
