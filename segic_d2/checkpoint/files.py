"""Checkpoint files as named tensors. No file is ever given the chance to run code."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..utils.files import AnyPath

KEY = "MODEL.BACKBONE.WEIGHTS"
_CONTAINERS = ("model", "state_dict", "module", "teacher", "model_state", "blobs")
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


def read_file(path: AnyPath, key: str = KEY) -> dict[str, Any]:
    """All that a checkpoint file holds, as it is: a .safetensors; a .pth, .pt or .bin (PyTorch,
    tensors only); a .pkl (Detectron2's model zoo or Caffe2, numpy arrays only).

    ``key``, the first word of every error, is who asked for the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix; a damaged file; a file that holds code, or no dict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{key}: no file {str(path)!r}; give a .safetensors, .pth or .pkl file, 'embedded', "
            "'timm' or 'timm:TAG'"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix in (".pth", ".pt", ".bin"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix == ".pkl":
            with path.open("rb") as file:
                state = _ArrayUnpickler(file, encoding="latin1").load()
        else:
            raise ValueError(f"{key}: {path} is no .safetensors, .pth, .pt, .bin or .pkl file")
    except (pickle.UnpicklingError, SafetensorError, EOFError, RuntimeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{key}: {path} is damaged or holds more than tensors ({first}); "
            "save its state dict as .safetensors"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"{key}: {path} holds a {type(state).__name__}, not named tensors")
    return state


def read_checkpoint(path: AnyPath) -> tuple[dict[str, torch.Tensor], bool]:
    """``read_file``'s tensors by name, out of the container that they are in, if any; and whether
    the names are Caffe2's."""
    path, state = Path(path), read_file(path)
    from_caffe2 = path.suffix == ".pkl" and "__author__" not in state
    state = next((state[c] for c in _CONTAINERS if isinstance(state.get(c), dict)), state)
    tensors = {}
    for name, value in state.items():
        if hasattr(value, "__array_interface__"):
            value = torch.from_numpy(value.copy())
        if isinstance(name, str) and torch.is_tensor(value) and not name.endswith("_momentum"):
            tensors[name] = value
    return tensors, from_caffe2
