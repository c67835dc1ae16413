"""Checkpoint files as named tensors. No file is ever given the chance to run code."""

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils.file_io import Detectron2Handler, PathManager
from iopath.common.file_io import get_cache_dir
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..structures.context import Context
from ..utils.files import AnyPath, write_whole
from ..utils.remote import first_line, unreachable
from .foreign import CONTAINERS, load_tensors

KEY = "MODEL.BACKBONE.WEIGHTS"
OTHER = "it is empty or no checkpoint"
_HARMLESS = {  # all that a pickle of numpy arrays needs
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def write_checkpoint(data: Any, path: AnyPath, *, shared: bool = False) -> None:
    """Write what torch can save, whole or not at all, and onto the disk. OSError names the file and
    what is wrong with the disk, which torch's own writer does not."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    write_whole(path, buffer.getbuffer(), sync=True, shared=shared)


def fault_of(path: AnyPath) -> str:
    """What is wrong with the bytes of a .pth file, by their checksums, which torch does not read;
    "": nothing. Files of before torch 1.6 have none."""
    try:
        with open(path, "rb") as file:
            head = file.read(2)
        if head != b"PK":
            return "" if head[:1] == b"\x80" else OTHER  # a pickle, or
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except FileNotFoundError:
        return "there is no such file"
    except Exception as error:  # noqa: BLE001  headers may hold anything
        return f"it is cut short or damaged: {first_line(error)}"
    return f"it is damaged: wrong checksum of {part}" if part else ""


def newest_checkpoint(folder: AnyPath) -> str:
    """The checkpoint of a training in a folder whose iteration is the highest, of those that are
    whole; "": there is none."""
    found = []
    for path in Path(folder).glob("*.pth"):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            iteration = int(saved["iteration"]) if "trainer" in saved else -1
        except Exception:  # noqa: BLE001  not ours, or cut short
            continue
        if iteration >= 0 and not fault_of(path):
            found.append((iteration, path.stat().st_mtime_ns, str(path)))
    return max(found)[2] if found else ""


def fetch(path: AnyPath, key: str = KEY) -> Path:
    """Where a file lies on this machine: a path of this machine, or of any kind that Detectron2's
    ``PathManager`` knows (detectron2://, https://, …), which is downloaded once.

    ``key``, the first word of every error, is who asked for the file.

    Raises:
        FileNotFoundError: no such file; or it cannot be fetched, which is found within seconds.
    """
    name = os.fspath(path)
    if "://" not in name:
        if not os.path.isfile(name):
            raise FileNotFoundError(
                f"{key}: no file {name!r}; give a .safetensors, .pth or .pkl file or a URL, "
                "'embedded', 'timm' or 'timm:TAG'"
            )
        return Path(name)
    try:
        url = _web_address(name)
        reason = url and not os.path.isfile(_cached(url)) and unreachable(url)
        if not reason:
            found = Path(PathManager.get_local_path(name))
            if found.is_file():
                return found
            reason = "no such file"  # of a scheme that no handler knows
    except Exception as error:  # every handler has its own: no such file, scheme or entry
        reason = f"{type(error).__name__}: {first_line(error)}"
    raise FileNotFoundError(
        f"{key}: {name!r} cannot be fetched ({reason}); place the file on this machine and set "
        f"{key} to its path"
    )


def _web_address(path: str) -> str:
    """The URL behind a path of Detectron2's; "" for one that other handlers serve."""
    if path.startswith("catalog://"):
        return ModelCatalog.get(path.removeprefix("catalog://"))
    url = path.replace(Detectron2Handler.PREFIX, Detectron2Handler.S3_DETECTRON2_PREFIX, 1)
    return url if url.startswith(("http://", "https://")) else ""


def _cached(url: str) -> str:
    """Where ``PathManager`` keeps what it downloaded."""
    folder = os.path.dirname(urlparse(url).path.lstrip("/"))
    return os.path.join(get_cache_dir(), folder, url.split("/")[-1])


def read_file(path: AnyPath, key: str = KEY) -> dict[str, Any]:
    """All that a checkpoint file holds, as it is: a .safetensors; a .pth, .pt or .bin (PyTorch,
    tensors only); a .pkl (Detectron2's model zoo or Caffe2, numpy arrays only). ``path`` and
    ``key``: as for ``fetch``.

    Raises:
        FileNotFoundError: no such file, or it cannot be fetched.
        ValueError: another suffix; a damaged file; a file that holds code, or no dict.
    """
    path = fetch(path, key)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in (".pth", ".pt", ".bin"):
            if fault := fault_of(path):
                raise EOFError(fault)
            state = load_tensors(os.fspath(path))
        elif path.suffix == ".pkl":
            with path.open("rb") as file:
                state = _ArrayUnpickler(file, encoding="latin1").load()
        else:
            raise ValueError(f"{key}: {path} is no .safetensors, .pth, .pt, .bin or .pkl file")
    except (pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"{key}: {path} is damaged or holds more than tensors ({first_line(error)}); "
            "save its state dict as .safetensors"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{key}: {path} holds a {type(state).__name__}, not named tensors")
    return state


def read_checkpoint(path: AnyPath) -> tuple[dict[str, torch.Tensor], bool]:
    """``read_file``'s tensors by name, out of the container that they are in, if any; and whether
    the names are Caffe2's."""
    state = read_file(path)
    from_caffe2 = os.fspath(path).endswith(".pkl") and "__author__" not in state
    state = next((state[c] for c in CONTAINERS if isinstance(state.get(c), dict)), state)
    tensors = {}
    for name, value in state.items():
        if hasattr(value, "__array_interface__"):
            value = torch.from_numpy(value.copy())
        if isinstance(name, str) and torch.is_tensor(value) and not name.endswith("_momentum"):
            tensors[name] = value
    return tensors, from_caffe2


def held_context(file: str, key: str) -> Context | None:
    """The context of a config's ``key``, a file of this machine or of any kind that Detectron2's
    ``PathManager`` knows; "": none. FileNotFoundError or ValueError: there is no such file, or it
    holds no context; the key is named. Whether it is of a model shows when it is used, because a
    part of its fingerprint comes with ``MODEL.WEIGHTS``."""
    path = fetch(file, key) if "://" in file else file
    try:
        return Context.load(path) if file else None
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{key}: {error}") from error
