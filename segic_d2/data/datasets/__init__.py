"""Dataset registration: one file per dataset family; importing registers the embedded dataset."""

from .folder import register_by_name, register_folder_dataset
from .shapes import register_shapes

register_shapes()

__all__ = ["register_by_name", "register_folder_dataset", "register_shapes"]
