"""Checkpoints of other trainers: what they hold beside tensors, and where the tensors are."""

import logging
import pickle
from collections.abc import Collection, Iterator, Mapping
from typing import IO, Any

import torch

CONTAINERS = (
    *("model", "state_dict", "model_state_dict", "module", "teacher", "model_state", "blobs"),
    *("net", "network", "weights"),
    *("ema", "model_ema", "ema_model", "ema_state_dict"),  # behind what was trained
)
PREFIXES = "module.", "_orig_mod.", "model.", "net.", "network."  # of wrappers and trainers
NAMED = 6  # keys in a message

logger = logging.getLogger(__name__)


class NotTensors(pickle.UnpicklingError):
    """A file cannot be read without what is never unpickled, which the message names."""


class _NotRead:
    """Stands for an object of a class that is no tensor: nothing of it is called or imported."""

    def __new__(cls, *args: Any, **options: Any) -> "_NotRead":
        return object.__new__(cls)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Take whatever the object was made of."""

    def __setstate__(self, state: Any) -> None:
        """Keep nothing of its state."""


def load_tensors(file: str | IO[bytes]) -> Any:
    """What a .pth file holds, on the CPU. Objects of other classes than tensors, such as numbers of
    NumPy or options of a trainer, are never made: something inert is in their place, and the log
    names them. NotTensors: that is impossible; other errors as of ``torch.load``."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        try:
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(file))
        except Exception:  # noqa: BLE001  of another form: what torch said first holds
            names = []
        if not names:
            raise
        held = _listed(names)
        try:
            with torch.serialization.safe_globals([(_NotRead, name) for name in names]):
                found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise NotTensors(f"it holds {held}, which is never unpickled") from error
    if isinstance(found, _NotRead):
        raise NotTensors(f"it holds {held}, which is never unpickled")
    logger.warning("%s holds %s beside tensors: not read", file, held)
    return found


def named_tensors(held: Mapping[str, Any], wanted: Collection[str]) -> dict[str, Any]:
    """The tensors (or arrays) by name of what a file holds: of its container (``CONTAINERS``), with
    or without the prefixes of wrappers, that has the most of the names that are ``wanted``.
    ValueError: there are none; the message names the keys that were found."""
    names, best, most = set(wanted), {}, (-1, -1)
    for state in _candidates(held):
        for tensors in _without_prefixes(state):
            score = len(names & tensors.keys()), len(tensors)
            if score[0] > most[0] or (score[0] == most[0] == 0 and score[1] > most[1]):
                best, most = tensors, score
    if not best:
        inner = held.get("model")
        keys = inner if isinstance(inner, Mapping) and len(held) == 1 else held
        raise ValueError(f"it holds {_listed(list(map(str, keys)))}, and no named tensors")
    return best


def _candidates(held: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Dicts of tensors in a dict and in its containers, two deep."""
    for outer in (held, *(held[c] for c in CONTAINERS if isinstance(held.get(c), Mapping))):
        for inner in (outer, *(outer[c] for c in CONTAINERS if c in outer)):
            if isinstance(inner, Mapping):
                found = {n: v for n, v in inner.items() if isinstance(n, str) and _is_tensor(v)}
                if found:
                    yield found


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or hasattr(value, "__array_interface__")


def _without_prefixes(state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The tensors with their own names, and with one prefix after the other taken away."""
    tensors = dict(state)
    yield tensors
    for _ in range(3):
        prefix = next((p for p in PREFIXES if any(n.startswith(p) for n in tensors)), "")
        if not prefix:
            return
        others = {n: v for n, v in tensors.items() if not n.startswith(prefix)}
        own = {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
        tensors = {**others, **own}
        yield tensors


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more if names else "nothing"
