"""Files that hold how far an evaluation has come, one per process, with its fingerprint."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from detectron2.utils import comm

from ...checkpoint import FROZEN_PREFIX
from ...structures.features import tensor_bytes

JSON = ".json"  # ends the names of entries that are not arrays
# what changes no result
INDIFFERENT = (
    *("OUTPUT_DIR", "VERSION", "CUDNN_BENCHMARK", "SOLVER", "DATALOADER"),
    *("MODEL.WEIGHTS", "TEST.SAVE_PERIOD", "TEST.VERIFY", "TEST.EVAL_PERIOD"),
)


def progress_file(output_dir):
    """Path of this process's progress file."""
    return Path(output_dir) / f"progress-{comm.get_rank()}.npz"


def remove_others(path):
    """Remove the files beside a progress file that an earlier run with more processes left."""
    for file in path.parent.glob("progress-*.npz*"):
        if int(file.name.split("-")[1].split(".")[0]) >= comm.get_world_size():
            file.unlink(missing_ok=True)


def write(path, entries):
    """Write arrays and JSON values under their names, whole or not at all; no code is written.

    Raises:
        TypeError: a value is neither an array nor a value of JSON.
    """
    arrays = {}
    for name, value in entries.items():
        if isinstance(value, torch.Tensor):
            value = value.cpu().numpy()
        if not isinstance(value, np.ndarray):
            text = json.dumps(value, default=_number)
            name, value = name + JSON, np.frombuffer(text.encode(), np.uint8)
        arrays[name] = value
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _number(value):
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is neither an array nor a value of JSON")


def read(path):
    """Read what ``write`` wrote, and check its checksums.

    Raises:
        OSError, ValueError, zipfile.BadZipFile: there is no such file, or it is broken.
    """
    entries = {}
    with np.load(path, allow_pickle=False) as file:
        for name in file.files:
            value = file[name]
            if name.endswith(JSON):
                name, value = name[: -len(JSON)], json.loads(value.tobytes())
            entries[name] = value
    return entries


def fingerprint(cfg, model, items):
    """The fingerprint of an evaluation: hashes of config, weights and dataset, and processes.

    Args:
        cfg: config. Keys that change no result (``INDIFFERENT``) are left out.
        model: module. A frozen backbone enters by its own fingerprint.
        items: the items of the loader, in order: dicts or objects with a ``repr``.

    Returns:
        dict of text and numbers.
    """
    return {
        "config": _config_hash(cfg),
        "weights": _weights_hash(model),
        "dataset": _items_hash(items),
        "processes": comm.get_world_size(),
    }


def _config_hash(cfg):
    cfg = cfg.clone()
    cfg.defrost()
    for key in INDIFFERENT:
        *path, last = key.split(".")
        node = cfg
        for name in path:
            node = node[name]
        node.pop(last, None)
    return _hash(cfg.dump())


def _weights_hash(model):
    digest = hashlib.sha256()
    if not isinstance(model, torch.nn.Module):
        return ""
    prints = [m.fingerprint for m in model.modules() if hasattr(m, "fingerprint")]
    digest.update(repr(prints).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not prints or f".{FROZEN_PREFIX}" not in f".{name}":
            _add(digest, name, tensor)
    for module in model.modules():  # a context that was given once
        for value in filter(dataclasses.is_dataclass, vars(module).values()):
            if any(isinstance(v, torch.Tensor) for v in vars(value).values()):
                for name, part in sorted(vars(value).items()):
                    _add(digest, name, part)
    return digest.hexdigest()[:16]


def _add(digest, name, value):
    digest.update(name.encode())
    is_tensor = isinstance(value, torch.Tensor)
    digest.update(tensor_bytes(value) if is_tensor else repr(value).encode())


def _items_hash(items):
    digest = hashlib.sha256()
    for i in range(len(items)):
        item = items[i]
        if isinstance(item, dict):
            item = sorted((k, v) for k, v in item.items() if k != "annotations")
        digest.update(repr(item).encode())
    return digest.hexdigest()[:16]


def _hash(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]
