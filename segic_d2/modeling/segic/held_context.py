"""Contexts from outside: the one that a config gives a model to hold, and whether one is its."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from ...checkpoint.files import fetch
from ...structures.context import Context


def held_context(file: str) -> Context | None:
    """The context of ``MODEL.SEGIC.CONTEXT``, a file of this machine or of any kind that
    Detectron2's ``PathManager`` knows; "": none. FileNotFoundError or ValueError: there is no such
    file, or it holds no context; the key is named. Whether it is of this model shows when it is
    used, because a part of its fingerprint comes with ``MODEL.WEIGHTS``."""
    key = "MODEL.SEGIC.CONTEXT"
    path = fetch(file, key) if "://" in file else file
    try:
        return Context.load(path) if file else None
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"{key}: {error}") from error


def check_held_context(cfg: CfgNode) -> None:
    """``held_context``'s errors, before a model is built."""
    held_context(cfg.MODEL.SEGIC.CONTEXT)


def check_form(context: Context, kind: str, fingerprint: Mapping[str, Any], channels: int) -> None:
    """ValueError: a context of another kind, of another model, or of other channels."""
    if context.kind != kind:
        raise ValueError(
            f"this SegIC takes contexts of {kind!r}, not of {context.kind!r}: make it anew from "
            "its references"
        )
    if context.fingerprint:
        context.check(fingerprint)
    width = context.tensors["prototypes"].shape[-1]
    if width != channels:
        raise ValueError(f"the context has {width} channels, this model {channels}")
