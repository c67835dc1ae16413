"""Models and their parts; importing registers them."""

from ..structures.context import Context
from ..structures.features import Features
from . import backbone  # noqa: F401
from .protocol import InContextModel
from .seggpt.meta_arch import SegGPT
from .segic.mask_head import InContextMaskHead
from .segic.meta_arch import SegIC
from .segic.regions.head import RegionMatchingHead
from .text.encoder import (
    TEXT_ENCODER_REGISTRY,
    build_text_encoder,
    read_text_table,
    save_text_table,
)

__all__ = [
    "Context",
    "Features",
    "InContextMaskHead",
    "InContextModel",
    "RegionMatchingHead",
    "SegGPT",
    "SegIC",
    "TEXT_ENCODER_REGISTRY",
    "build_text_encoder",
    "read_text_table",
    "save_text_table",
]
