"""Files that hold how far an evaluation has come, one per process, with its fingerprint."""

import hashlib
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm

from ...checkpoint import frozen_prefixes
from ...structures.context import Context
from ...structures.features import tensor_bytes
from ...utils.claim import Claim
from ...utils.files import AnyPath, whole_file

logger = logging.getLogger(__name__)

JSON = ".json"  # ends the names of entries that are not arrays
# what changes no result
INDIFFERENT = (
    *("OUTPUT_DIR", "VERSION", "CUDNN_BENCHMARK", "SOLVER", "DATALOADER"),
    *("MODEL.WEIGHTS", "TEST.SAVE_PERIOD", "TEST.VERIFY", "TEST.EVAL_PERIOD"),
)


def progress_file(output_dir: str) -> Path:
    """Path of this process's progress file."""
    return Path(output_dir) / f"progress-{comm.get_rank()}.npz"


def claim_file(output_dir: str) -> tuple[Path | None, AbstractContextManager[Any]]:
    """This process's progress file, and the claim to it, which the caller closes; None, with a line
    in the log, where another process evaluates into the same folder."""
    path = progress_file(output_dir)
    try:
        return path, Claim(f"{path}.lock")
    except BlockingIOError as error:
        logger.warning(
            "another evaluation writes into %s (%s): this one keeps no progress, and the results "
            "of whichever ends last stay",
            output_dir,
            error.strerror,
        )
        return None, nullcontext()


def remove_others(path: Path) -> None:
    """Remove the files beside a progress file that an earlier run with more processes left."""
    for file in path.parent.glob("progress-*.npz*"):
        if int(file.name.split("-")[1].split(".")[0]) >= comm.get_world_size():
            file.unlink(missing_ok=True)


def remove_own(path: Path) -> None:
    """Remove a progress file, and what killed writers left of it."""
    for file in (path, *path.parent.glob(f"{path.name}.*.part")):
        file.unlink(missing_ok=True)


def write(path: AnyPath, entries: Mapping[str, Any]) -> None:
    """Write arrays and JSON values under their names, whole or not at all. TypeError: a value is
    neither."""
    arrays = {}
    for name, value in entries.items():
        if isinstance(value, torch.Tensor):
            value = value.cpu().numpy()
        if not isinstance(value, np.ndarray):
            text = json.dumps(value, default=_number)
            name, value = name + JSON, np.frombuffer(text.encode(), np.uint8)
        arrays[name] = value
    with whole_file(path, sync=True, shared=True) as part, open(part, "wb") as file:
        np.savez(file, **arrays)


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is neither an array nor a value of JSON")


def read(path: AnyPath) -> dict[str, Any]:
    """Read what ``write`` wrote. OSError, ValueError, zipfile.BadZipFile and others: no such file,
    or it is broken. No more is read than the file takes on the disk."""
    entries = {}
    with zipfile.ZipFile(path) as archive:
        if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
            raise ValueError("it is compressed, which progress files are not")
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            value = file[name]
            if not isinstance(value, np.ndarray):  # NumPy hands out what is no array as bytes
                raise ValueError(f"its part {name!r} is no array")
            if name.endswith(JSON):
                name, value = name[: -len(JSON)], json.loads(value.tobytes())
            entries[name] = value
    return entries


def fingerprint(cfg: CfgNode, model: Any, items: Sequence[Any]) -> dict[str, str | int]:
    """The fingerprint of an evaluation: hashes of config, weights and dataset, and processes. Keys
    that change no result (``INDIFFERENT``) are left out, and a frozen backbone enters by its own
    fingerprint. ``items`` are those of the loader, in order: dicts or objects with a ``repr``."""
    return {
        "config": _config_hash(cfg),
        "weights": _weights_hash(model),
        "dataset": _items_hash(items),
        "processes": comm.get_world_size(),
    }


def _config_hash(cfg: CfgNode) -> str:
    cfg = cfg.clone()
    cfg.defrost()
    for key in INDIFFERENT:
        *path, last = key.split(".")
        reduce(getitem, path, cfg).pop(last, None)
    return hashlib.sha256(cfg.dump().encode()).hexdigest()[:16]


def _weights_hash(model: Any) -> str:
    if not isinstance(model, torch.nn.Module):
        return ""
    prints = [m.fingerprint for m in model.modules() if hasattr(m, "fingerprint")]
    digest = hashlib.sha256(repr(prints).encode())
    frozen = frozen_prefixes(model)
    for name, tensor in sorted(model.state_dict().items()):
        if not (prints and name.startswith(frozen)):
            _add(digest, name, tensor)
    for module in model.modules():  # a context that was given once
        for value in vars(module).values():
            if isinstance(value, Context):
                for name, part in sorted({**vars(value), **value.tensors}.items()):
                    _add(digest, name, None if name == "tensors" else part)
    return digest.hexdigest()[:16]


def _add(digest: Any, name: str, value: Any) -> None:
    digest.update(name.encode())
    is_tensor = isinstance(value, torch.Tensor)
    digest.update(tensor_bytes(value).data if is_tensor else repr(value).encode())


def _items_hash(items: Sequence[Any]) -> str:
    digest = hashlib.sha256()
    for item in (items[i] for i in range(len(items))):
        if isinstance(item, dict):
            item = sorted((k, v) for k, v in item.items() if k != "annotations")
        digest.update(repr(item).encode())
    return digest.hexdigest()[:16]
