"""The file that a video is gone on from: what is remembered, and where objects were last."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from ..structures.memory import Memory
from ..utils.files import write_whole
from ..utils.remote import first_line
from .class_tracks import ClassTracks

KEY = "segic_d2.video"


def write_state(
    path: str | os.PathLike[str],
    state: Mapping[str, Any],
    memory: Memory,
    classes: ClassTracks | None,
    fingerprint: Mapping[str, Any],
) -> None:
    """Write what JSON can hold, a memory, and tracks of classes if there are any."""
    tensors, about = memory.packed()
    told = {"state": dict(state), "memory": about, "fingerprint": dict(fingerprint)}
    if classes is not None:
        more, told["classes"] = classes.packed()
        tensors |= more
    write_whole(path, save(tensors, metadata={KEY: json.dumps(told)}))


def read_state(
    path: str | os.PathLike[str], fingerprint: Mapping[str, Any], device: torch.device
) -> tuple[dict[str, Any], Memory, ClassTracks | None]:
    """What ``write_state`` wrote. FileNotFoundError: no file; ValueError: another kind of file, or
    another model's, with every difference."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"file of a video not found: {path}")
    try:
        with safe_open(str(path), "pt") as file:
            told = json.loads((file.metadata() or {})[KEY])
        tensors = load_file(str(path))
        memory = Memory.unpacked(tensors, told["memory"], device)
        classes = None
        if "classes" in told:
            classes = ClassTracks.unpacked(tensors, told["classes"], device)
    except Exception as error:
        reason = first_line(error)[:200]
        raise ValueError(f"{path} is no file of a video of segic_d2: {reason}") from error
    own = dict(fingerprint)
    differences = [
        f"{key}: file {told['fingerprint'].get(key)!r}, model {own.get(key)!r}"
        for key in sorted({*own, *told["fingerprint"]})
        if told["fingerprint"].get(key) != own.get(key)
    ]
    if differences:
        raise ValueError(f"{path} is of another model: " + "; ".join(differences))
    return told["state"], memory, classes
