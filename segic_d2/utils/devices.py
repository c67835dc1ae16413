"""Devices, by what they can do: the one place of the package that knows their kinds by name."""

from typing import Any

import torch


def best_device() -> str:
    """The GPU if there is one, else the CPU: "cuda" or "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def is_available(device: torch.device | str) -> bool:
    """Whether this machine has a device of that kind ("cuda:1", ``torch.device``, …)."""
    module = _module(device)
    return not hasattr(module, "is_available") or module.is_available()


def device_count(kind: str) -> int:
    """How many devices of a kind ("cuda", …) this machine has."""
    return _module(kind).device_count()


def kinds() -> tuple[str, str]:
    """The kinds of devices on which this process may compute, the CPU first."""
    found = getattr(torch, "accelerator", None)  # of torch 2.6 and later
    found = found.current_accelerator() if found else None
    return ("cpu", "cuda" if found is None else found.type)


def synchronize(device: torch.device | str) -> None:
    """Wait until all that was asked of a device is done."""
    if torch.device(device).type != "cpu":
        _module(device).synchronize()


def peak_memory(device: torch.device | str) -> int | None:
    """Bytes that torch had allocated at most since ``reset_peak_memory``; None on the CPU."""
    count = getattr(_module(device), "max_memory_allocated", None)
    return None if count is None else count()


def reset_peak_memory(device: torch.device | str) -> int | None:
    """Let ``peak_memory`` begin anew; returns the bytes that are allocated now, or None."""
    module = _module(device)
    if not hasattr(module, "reset_peak_memory_stats"):
        return None
    module.reset_peak_memory_stats()
    return module.memory_allocated()


def device_name(device: torch.device | str) -> str | None:
    """The name of a device's card; None where it has none, as the CPU."""
    name = getattr(_module(device), "get_device_name", None)
    return None if name is None else name(torch.device(device))


def upload(
    values: Any, device: torch.device | str | None, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """A tensor of ``values``, numbers or a tensor on the CPU or on ``device``, without waiting for
    the device. None: the device, or the dtype, of the values."""
    values = torch.as_tensor(values, dtype=dtype)
    if device is None:
        return values
    # CUDA keeps a copy of ordinary memory before the call returns, so that nothing can change it
    return values.to(device, non_blocking=torch.device(device).type == "cuda")


def _module(device: torch.device | str) -> Any:
    """What torch offers for a kind of device: ``torch.cuda``, ``torch.cpu``, …, or None."""
    return getattr(torch, torch.device(device).type, None)
