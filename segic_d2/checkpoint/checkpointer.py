"""Checkpoints that hold what was trained, not the frozen backbone."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import IO, Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from safetensors.torch import load_file, save
from torch import nn

from ..compat import IncompatibleKeys, forget_failed_load
from ..utils.agreement import require_alike
from ..utils.files import AnyPath, write_whole
from ..utils.remote import first_line
from .files import OTHER, fault_of, fetch, newest_checkpoint, write_checkpoint
from .foreign import NotTensors, load_tensors, named_tensors
from .official import HEAD, is_official, official_shapes, to_model_names
from .pretrained import PREFIX, PRETRAINED, name_of, weights_file
from .seggpt import from_seggpt, seggpt_names, seggpt_shapes

UNSAFE = ".pkl", ".pyth"  # Detectron2 would run the code they hold


def frozen_prefixes(model: nn.Module) -> tuple[str, ...]:
    """What the names of frozen tensors begin with: modules that say so by ``frozen``."""
    return tuple(f"{n}." for n, module in model.named_modules() if getattr(module, "frozen", False))


def trainable_state_dict(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state dict of a model without its frozen parts."""
    frozen = frozen_prefixes(model)
    return {k: v for k, v in model.state_dict().items() if not k.startswith(frozen)}


def save_weights(model: nn.Module, path: AnyPath) -> None:
    """Write the trainable weights alone to a .pth or .safetensors file; its folder is made where it
    is missing. ValueError: another suffix."""
    state, suffix = trainable_state_dict(model), os.path.splitext(path)[1]
    if suffix not in (".pth", ".safetensors"):
        raise ValueError(f"{path}: weights are written to .pth or .safetensors")
    if suffix == ".pth":
        write_checkpoint({"model": state}, path)
    else:
        write_whole(path, save({k: v.contiguous() for k, v in state.items()}))


def find_checkpoint(path: str) -> str:
    """Where the file of ``MODEL.WEIGHTS`` lies on this machine; "": nowhere. One of another machine
    is downloaded, once.

    Raises:
        FileNotFoundError: no such file, or it cannot be fetched.
        ValueError: no decoder of that name ships (segic://), or a .pkl file.
    """
    name = name_of(path)
    if name in PRETRAINED or path.startswith(PREFIX):
        return weights_file(name)
    address, mark, query = path.partition("?") if "://" in path else (path, "", "")
    if address.endswith(UNSAFE):
        raise ValueError(
            f"cannot read the checkpoint {path}: MODEL.WEIGHTS takes .pth and .safetensors files"
        )
    if "://" in path:
        return f"{fetch(address, 'MODEL.WEIGHTS')}{mark}{query}"
    if path and not os.path.isfile(path):
        raise FileNotFoundError(f"checkpoint not found (MODEL.WEIGHTS): {path}")
    return path


def _content(path: str) -> str:
    """A file's name and hash, without where it lies; "none": no file is named."""
    if not path:
        return "none"
    data = Path(path.partition("?")[0]).read_bytes()
    return f"{os.path.basename(path)} (SHA-256 {hashlib.sha256(data).hexdigest()[:12]})"


class SegICCheckpointer(DetectionCheckpointer):
    """Saves and loads trainable weights only, in .pth or (loading) .safetensors files.

    ``MODEL.WEIGHTS`` may also name a decoder that ships with the package ("segic://demo").
    A checkpoint of the released SegIC or SegGPT is recognised by its names and loaded as it is, all
    of its tensors or none. A killed run never leaves a broken file under the name of a good one.

    ``complete``: refuse files that lack a trainable tensor, which would stay random; where training
    starts from other weights, Detectron2's warning is enough.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        complete: bool = False,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.complete = complete

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``save_dir/name.pth`` with the model, all checkpointables and ``kwargs``."""
        if not self.save_dir or not self.save_to_disk:
            return
        others = {key: obj.state_dict() for key, obj in self.checkpointables.items()}
        data = {"model": trainable_state_dict(self.model), **others, **kwargs}
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info(f"Saving checkpoint to {path}")
        write_checkpoint(data, path)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_whole(self._tag(), last_filename_basename, sync=True)

    def _tag(self) -> str:
        return os.path.join(self.save_dir, "last_checkpoint")

    def has_checkpoint(self) -> bool:
        """Whether the folder holds a checkpoint to go on from."""
        return bool(self.save_dir) and bool(self.get_checkpoint_file())

    def get_checkpoint_file(self) -> str:
        """The checkpoint that ``last_checkpoint`` names; where that file is missing or wrong, or
        what it names is gone or damaged, the one of the highest iteration that is whole, and a
        warning says so; "" where there is none."""
        name, fault = "", "it is missing"
        try:
            with open(self._tag(), encoding="utf-8") as file:
                name = file.read().strip()
            named = os.path.join(self.save_dir, name)
            fault = "it is empty" if not name else fault_of(named)
            if not fault:
                return named
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            fault = first_line(error)
        found = newest_checkpoint(self.save_dir)
        if found:
            what = f"{name}: {fault}" if name else fault
            self.logger.warning(
                f"{self._tag()} names no whole checkpoint ({what}): {found} is taken"
            )
        elif name:
            raise ValueError(
                f"{self._tag()} names {name} ({fault}), and no whole checkpoint lies beside it: "
                "start without --resume"
            )
        return found

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint or a file; see fvcore's Checkpointer. ValueError: processes
        would start from different files, as on machines that share no folder."""
        if comm.get_world_size() > 1:
            file = self.get_checkpoint_file() if resume and self.save_dir else ""
            require_alike({"the checkpoint to start from": _content(file or find_checkpoint(path))})
        return super().resume_or_load(path, resume=resume)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint; see DetectionCheckpointer.

        Raises:
            FileNotFoundError: no such file, or it cannot be fetched.
            ValueError: the file is no checkpoint, or another model's: it holds no tensor of this
                model's trainable part, or one of another shape, or (``complete``) lacks one. An
                official checkpoint must fit exactly, see ``to_model_names``.
        """
        self._path = path = find_checkpoint(path)
        try:
            return super().load(path, *args, **kwargs)
        finally:
            forget_failed_load(self)

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            if filename.endswith(UNSAFE):  # such as what another path led to
                raise ValueError("MODEL.WEIGHTS takes .pth and .safetensors files")
            if filename.endswith(".safetensors"):
                found = load_file(filename)
                if is_official(found, self._official_shapes()) or not found:
                    return {"model": found}
                return {"model": named_tensors({"model": found}, self._wanted())}
            if fault := fault_of(filename):
                raise EOFError if fault == OTHER else ValueError(fault)
            loaded = super()._load_file(filename)
        except (pickle.UnpicklingError, LookupError, EOFError) as error:
            # what torch says of them is a number, or the advice to run the file's code
            held = f" ({error})" if isinstance(error, NotTensors) else ""
            raise ValueError(
                f"cannot read the checkpoint {filename}: it is damaged, no checkpoint at all, or "
                f"holds more than tensors{held}; give a state dict as .pth or .safetensors"
            ) from error
        except Exception as error:  # every format has its own
            raise ValueError(
                f"cannot read the checkpoint {filename}: {first_line(error)}"
            ) from error
        state = loaded["model"]
        if not isinstance(state, dict) and len(loaded) == 1:
            kind = type(state).__name__
            raise ValueError(f"{filename} is no checkpoint: it holds a {kind}, not named tensors")
        if isinstance(state, dict) and is_official(state, self._official_shapes()):
            return loaded  # all of it must fit
        try:
            loaded["model"] = named_tensors(loaded, self._wanted())
        except ValueError as error:
            raise ValueError(f"{filename} is no checkpoint: {error}") from error
        return loaded

    def _official_shapes(self) -> dict[str, tuple[int, ...]]:
        needed = trainable_state_dict(self.model)
        return official_shapes({k: v for k, v in needed.items() if k.startswith(HEAD)})

    def _wanted(self) -> set[str]:
        """The names under which a file may hold this model's tensors."""
        own = self.model.state_dict()
        return {*own, *seggpt_names(seggpt_shapes(own))}

    def _torch_load(self, f: str | IO[bytes]) -> Any:
        return load_tensors(f)  # never unpickle code: our checkpoints hold tensors and numbers

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys:
        needed = trainable_state_dict(self.model)
        shapes = self._official_shapes()
        if is_official(checkpoint["model"], shapes):
            checkpoint["model"] = to_model_names(checkpoint["model"], shapes, self._path)
            self.logger.info(f"official SegIC checkpoint: all {len(shapes)} tensors are used")
        if painted := seggpt_shapes(needed):
            found = from_seggpt(checkpoint["model"], painted, self._path, self.complete)
            checkpoint["model"] = checkpoint["model"] if found is None else found
        incompatible = super()._load_model(checkpoint)
        lost = set(incompatible.missing_keys) | {k for k, *_ in incompatible.incorrect_shapes}
        if not set(needed) - lost:
            raise ValueError(f"{self._path} holds none of the model's trainable tensors")
        wrong = [x for x in incompatible.incorrect_shapes if x[0] in needed]
        if wrong:
            name, has, expected = wrong[0]
            raise ValueError(
                f"{self._path} holds another model's weights: {len(wrong)} tensors have another "
                f"shape, such as {name} with {tuple(has)}, expected {tuple(expected)}"
            )
        missing = sorted(lost & set(needed))
        if self.complete and missing:
            raise ValueError(
                f"{self._path} lacks {len(missing)} trainable tensors of this model, such as "
                f"{missing[0]}"
            )
        frozen, absent = frozen_prefixes(self.model), incompatible.missing_keys
        absent[:] = [k for k in absent if not k.startswith(frozen)]
        return incompatible
