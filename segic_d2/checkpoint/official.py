"""Checkpoints of the released SegIC implementation: recognised, checked, and given our names.

An official checkpoint is one flat dict of the float tensors that were trained (neck, prompt
encoder, mask decoder, projections: 148 in the published models), without a prefix and without the
frozen backbone. The modules of ``InContextMaskHead`` bear the same names, so that our name of a
tensor is ``sem_seg_head.`` and the official one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from detectron2.modeling import build_backbone, build_sem_seg_head
from safetensors.torch import save

from ..config.load import load_config
from ..utils.files import AnyPath, part_of, write_whole
from .files import read_file

Shapes: TypeAlias = dict[str, tuple[int, ...]]  # by official name

LISTED = 20  # tensors of a kind that an error names
HEAD = "sem_seg_head."
CONFIGS = {  # by C, the channels of the frozen features
    768: "official/segic_dinov2_B.yaml",
    1024: "official/segic_dinov2_L.yaml",
    1536: "official/segic_dinov2_G.yaml",
}


def official_shapes(state: Mapping[str, torch.Tensor]) -> Shapes:
    """The shapes of the trainable tensors of a model, from their state dict."""
    return {name.removeprefix(HEAD): tuple(tensor.shape) for name, tensor in state.items()}


def is_official(state: Mapping[str, Any], shapes: Shapes) -> bool:
    """Whether a file's tensors ``state`` bear official names; ours all start with a prefix."""
    return any(name in shapes for name in state)


def to_model_names(
    state: Mapping[str, Any], shapes: Shapes, source: AnyPath
) -> dict[str, torch.Tensor]:
    """The tensors of an official checkpoint under our names, all that ``shapes`` needs or none.

    Raises:
        ValueError: naming the file and every tensor that is missing, unused, or of another shape
            or no finite floats, with what was found and what was expected.
    """
    return {
        HEAD + name: v for name, v in fitting(state, shapes, source, "an official SegIC").items()
    }


def fitting(
    state: Mapping[str, Any], shapes: Shapes, source: AnyPath, kind: str
) -> dict[str, torch.Tensor]:
    """The tensors of a file, if they are exactly those that ``shapes`` needs. ValueError: as of
    ``to_model_names``; ``kind`` is whose checkpoint it should be."""
    missing = [f"missing: {k}, expected {v}" for k, v in shapes.items() if k not in state]
    unused = [f"unused: {k}, found {_form(v)}" for k, v in state.items() if k not in shapes]
    wrong = [
        f"of another shape: {k}, found {_form(state[k])}, expected {v}"
        for k, v in shapes.items()
        if k in state and _form(state[k]) != str(v)
    ]
    if missing or unused or wrong:
        raise ValueError(
            f"{source} does not fit as {kind} checkpoint: {len(missing)} tensors are "
            f"missing, {len(unused)} unused, {len(wrong)} of another shape\n  "
            + "\n  ".join([*_first(missing), *_first(unused), *_first(wrong)])
        )
    return {name: state[name] for name in shapes}


def _first(lines: list[str]) -> list[str]:
    more = [f"… and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [*lines[:LISTED], *more]


def _form(value: object) -> str:
    """What is found under a name: a shape, and what is odd unless it is a tensor of numbers."""
    if not torch.is_tensor(value):
        return f"a {type(value).__name__}"
    form = str(tuple(value.shape))
    if not value.is_floating_point():
        return f"{form} {value.dtype}"
    if value.layout != torch.strided or value.is_meta:
        return f"{form} without its numbers" if value.is_meta else f"{form} {value.layout}"
    return form if value.isfinite().all() else f"{form} with infinite or undefined numbers"


def config_of(state: Mapping[str, Any], source: AnyPath) -> str:
    """The shipped config of an official checkpoint, recognised by the channels of its features;
    ValueError where the tensors of the file ``source`` are none of the published models'."""
    inner = state.get("model")  # where our own checkpoints keep their tensors
    if any(str(k).startswith(HEAD) for k in (inner if isinstance(inner, dict) else state)):
        raise ValueError(
            f"{source} has the names of segic_d2 already ({HEAD}…): MODEL.WEIGHTS takes it as it is"
        )
    weight = state.get("neck.0.weight")
    if not torch.is_tensor(weight) or weight.dim() != 4:
        raise ValueError(
            f"{source} is no official SegIC checkpoint, or not whole: it lacks neck.0.weight "
            "(256, C, 1, 1), by which the model is recognised; with --config all that is missing "
            "is named"
        )
    channels = weight.shape[1]
    if channels not in CONFIGS:
        known = ", ".join(f"{c}: {config}" for c, config in CONFIGS.items())
        raise ValueError(
            f"{source} is for features of {channels} channels, which no official model has "
            f"({known}); give its config with --config"
        )
    return CONFIGS[channels]


def needed_shapes(config: AnyPath) -> Shapes:
    """The shapes that the model of a config (path or shipped name) needs."""
    cfg = load_config(str(config))
    with torch.device("meta"):
        head = build_sem_seg_head(cfg, build_backbone(cfg).output_shape())
    return official_shapes(head.state_dict())


def convert(source: AnyPath, target: AnyPath, config: AnyPath | None = None) -> str:
    """Write an official checkpoint as a file for ``MODEL.WEIGHTS``; one line says what was done.

    The source stays as it is, and is never unpickled as code; the target, a .safetensors file,
    appears whole or not at all. ``config`` is a path or shipped name; None: see ``config_of``.

    Raises:
        FileNotFoundError: no such source or config.
        OSError: the target cannot be written.
        ValueError: see ``read_file``, ``config_of`` and ``to_model_names``; a target that is
            no .safetensors file or would overwrite the source.
    """
    source, target = Path(source), Path(target)
    if not source.is_file():
        raise FileNotFoundError(f"official checkpoint not found: {source}")
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: the result is a .safetensors file and must be named so")
    if any(p.exists() and p.samefile(source) for p in (target, part_of(target))):
        raise ValueError(f"{target} would overwrite {source}; give another name")
    state = read_file(source, "official checkpoint")
    if list(state) == ["model"] and isinstance(state["model"], dict):
        state = state["model"]
    config = config or config_of(state, source)
    tensors = to_model_names(state, needed_shapes(config), source)
    # as float32, as the model computes, and without shared memory
    tensors = {name: tensor.float().clone() for name, tensor in tensors.items()}
    write_whole(target, save(tensors, metadata={"converted_from": source.name}))
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return f"{target}: all {len(tensors)} tensors ({numbers:,} numbers) of {source}, for {config}"
