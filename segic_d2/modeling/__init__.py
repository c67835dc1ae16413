from .context import Context
from .encoding import Features
from .mask_head import InContextMaskHead
from .outputs import to_label_map
from .segic import SegIC
from .text_encoder import (
    TEXT_ENCODER_REGISTRY,
    build_text_encoder,
    read_text_table,
    save_text_table,
)

__all__ = [
    "Context",
    "Features",
    "InContextMaskHead",
    "SegIC",
    "TEXT_ENCODER_REGISTRY",
    "build_text_encoder",
    "read_text_table",
    "save_text_table",
    "to_label_map",
]
