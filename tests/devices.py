"""A pretended GPU: mistakes with devices show on a CPU, and so does where the host waits.

Everything is computed on the CPU. Tensors that were made on, or moved to, the device "cuda" are
noted by their storage, and so is whatever is computed of them, in the backward pass too. Their
``device`` reads "cuda:0", and an operator that is given tensors of both sides is refused as torch
refuses it on a GPU. ``FakeTensorMode`` does this as well, with torch's own rules, but without
values and without a backward pass (``tests/modeling/test_fake_device.py``).
"""

import contextlib
import functools
import sys
from pathlib import Path
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KIND = "cuda"
DEVICE = torch.device(KIND, 0)
PACKAGE = Path(__file__).resolve().parents[1] / "segic_d2"

_aten = torch.ops.aten
_INDEXED = {_aten.index, _aten.index_put, _aten.index_put_, _aten._unsafe_index}
_COPIES = {_aten.copy_}  # between devices, as on a GPU
_READS = {_aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.bincount}
_READS |= {_aten.equal, _aten.repeat_interleave, _aten._unique2}
_ASKING = {torch.Tensor.tolist, torch.linalg.inv}  # what no operator shows
_GETTERS = {
    torch.Tensor.device.__get__: lambda: DEVICE,
    torch.Tensor.is_cuda.__get__: lambda: True,
    torch.Tensor.is_cpu.__get__: lambda: False,
    torch.Tensor.get_device: lambda: 0,
}


class MixedDevices(RuntimeError):
    """An operator was given tensors of the CPU and of the pretended device."""


class PretendedDevice(contextlib.ExitStack):
    """Context manager: inside, there is a device "cuda".

    Attributes:
        waits: [(what, where)] of each time that the host had to wait for the device: what was
            asked, and the innermost function of the package that asked, "file.py function".
    """

    def __enter__(self):
        super().__enter__()
        self.waits, self._away = [], {}
        self.made_away = False  # where torch itself makes tensors, inside of a function
        for patch in _patches():
            self.enter_context(patch)
        self.enter_context(_Operators(self))
        self.enter_context(_Functions(self))
        return self

    def holds(self, tensor):
        """Whether a tensor stands on the pretended device."""
        return tensor.untyped_storage()._cdata in self._away

    def place(self, tensor, away):
        """Note where a tensor stands."""
        storage = tensor.untyped_storage()
        if away:  # while there is a weak reference, no other storage gets this address
            self._away[storage._cdata] = StorageWeakRef(storage)
        else:
            self._away.pop(storage._cdata, None)
        return tensor

    def wait(self, what):
        """Note that the host waits."""
        frame = sys._getframe()
        while frame and PACKAGE not in Path(frame.f_code.co_filename).parents:
            frame = frame.f_back
        where = "outside of the package"
        if frame:
            file = Path(frame.f_code.co_filename).relative_to(PACKAGE)
            where = f"{file.as_posix()} {frame.f_code.co_name}"
        self.waits.append((what, where))


def _tensors(arguments):
    return [x for x in tree_leaves(arguments) if isinstance(x, torch.Tensor)]


class _Operators(TorchDispatchMode):
    """Refuses operators on mixed devices; their results stand where their inputs do."""

    def __init__(self, pretended):
        super().__init__()
        self.pretended = pretended

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, packet = kwargs or {}, func.overloadpacket
        inputs = _tensors((args, kwargs))
        away = [self.pretended.holds(x) for x in inputs]
        if any(away) and packet not in _COPIES:
            refused = [x for x, there in zip(inputs, away, strict=True) if not there and x.dim()]
            if packet in _INDEXED and away[0]:  # indices may be on the CPU
                indices = {id(x) for x in tree_leaves(args[1])}
                refused = [x for x in refused if id(x) not in indices]
            if refused:
                shapes = ", ".join(str(tuple(x.shape)) for x in refused)
                raise MixedDevices(
                    f"{func}: expected all tensors on {DEVICE}, on the CPU: {shapes}"
                )
        if any(away):
            self._note_waits(packet, args, away)
        result = func(*args, **kwargs)
        known = {x.untyped_storage()._cdata for x in inputs}
        for x in tree_leaves(result):
            new = isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in known
            if new and (any(away) or not inputs and self.pretended.made_away):
                self.pretended.place(x, True)
        return result

    def _note_waits(self, packet, args, away):
        name = packet.__name__
        if packet in _READS:
            self.pretended.wait(name)
        elif packet in _COPIES and away[0] != away[-1] and not (len(args) > 2 and args[2]):
            self.pretended.wait("copy from the CPU" if away[0] else "copy to the CPU")
        elif packet in _INDEXED:
            chosen = any(x is not None and x.dtype == torch.bool for x in args[1])
            if chosen and not (len(args) > 2 and args[2].dim() == 0):
                self.pretended.wait("rows chosen by a mask")


class _Functions(TorchFunctionMode):
    """What Python asks of a tensor or of torch: where it stands, and to have it elsewhere."""

    def __init__(self, pretended):
        super().__init__()
        self.pretended = pretended

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        own = args[0] if args and isinstance(args[0], torch.Tensor) else None
        if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
            return func(*args, **kwargs)
        if func in (torch.Tensor.backward, torch.autograd.backward):
            return func(*args, **kwargs)  # Python is not asked in there; operators are
        away = own is not None and self.pretended.holds(own)
        if func in _GETTERS and away:
            return _GETTERS[func]()
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and away:
            raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")
        if func in _ASKING and away:
            self.pretended.wait(func.__name__)
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda, torch.Tensor.type_as):
            return self._move(func, own, args[1:], kwargs, away)
        if func is torch.as_tensor and own is not None and kwargs.get("device") is not None:
            return self._move(torch.Tensor.to, own, (), kwargs, away)
        target = kwargs.pop("device", None)
        if target is None:
            with self._making(any(map(self.pretended.holds, _tensors((args, kwargs))))):
                result = func(*args, **kwargs)
            from_host = func is torch.Tensor.new_tensor and away
        else:
            with self._making(False):
                result = func(*args, device="cpu", **kwargs)
            from_host = torch.device(target).type == KIND
            self.pretended.place(result, from_host)
        if from_host and func in (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor):
            self.pretended.wait("copy from the CPU")
            self.pretended.place(result, True)
        return result

    @contextlib.contextmanager
    def _making(self, away):
        """Inside, tensors that torch's own C++ makes of nothing stand on the device, or do not."""
        before, self.pretended.made_away = self.pretended.made_away, away
        try:
            yield
        finally:
            self.pretended.made_away = before

    def _move(self, func, tensor, args, kwargs, away):
        """``tensor.to(…)`` and its like."""
        target, rest = away, []
        for x in (*args, kwargs.pop("device", None), kwargs.pop("other", None)):
            if isinstance(x, torch.Tensor):
                target = self.pretended.holds(x)
                kwargs["dtype"] = x.dtype
            elif isinstance(x, str | torch.device):
                target = torch.device(x).type == KIND
            elif x is not None:
                rest.append(x)
        if func in (torch.Tensor.cpu, torch.Tensor.cuda):
            target, rest = func is torch.Tensor.cuda, []
        if target == away:
            return tensor.to(*rest, **kwargs) if rest or kwargs else tensor
        if not (kwargs.pop("non_blocking", False) and target):
            self.pretended.wait("copy from the CPU" if target else "copy to the CPU")
        rest = [x for x in rest if isinstance(x, torch.dtype)]
        moved = tensor.to(*rest, **{**kwargs, "copy": True})
        return self.pretended.place(moved, target)


def _patches():
    """What torch says of a GPU that is there."""
    autocast, enabled, dtype = torch.autocast, torch.is_autocast_enabled, torch.get_autocast_dtype

    def here(device):
        return "cpu" if device == KIND else device

    def on_cpu(device_type, *args, **kwargs):
        return autocast(here(device_type), *args, **kwargs)

    new = {
        "torch.autocast": on_cpu,
        "torch.amp.autocast": on_cpu,
        "torch.cuda.amp.autocast": functools.partial(autocast, "cpu"),
        "torch.is_autocast_enabled": lambda kind="cpu": enabled(here(kind)),
        "torch.get_autocast_dtype": lambda kind: dtype(here(kind)),
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.is_current_stream_capturing": lambda: False,
        "torch.cuda.synchronize": lambda device=None: None,
        "torch.cuda.get_rng_state": lambda device=None: torch.get_rng_state(),
        "torch.cuda.set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "torch.cuda.max_memory_allocated": lambda device=None: 0,
    }
    if hasattr(torch, "accelerator"):
        stream = mock.Mock(is_capturing=lambda: False)
        new["torch.accelerator.current_stream"] = lambda device=None: stream
    return [mock.patch(name, value) for name, value in new.items()]
