"""Contexts from outside: the one that a config gives a model to hold, and whether one is its."""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from ...checkpoint.files import held_context
from ...structures.context import Context


def given_context(file: str) -> Context | None:
    """The context of ``MODEL.SEGIC.CONTEXT``; errors of ``held_context``."""
    return held_context(file, "MODEL.SEGIC.CONTEXT")


def check_held_context(cfg: CfgNode) -> None:
    """``given_context``'s errors, before a model is built."""
    given_context(cfg.MODEL.SEGIC.CONTEXT)


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
