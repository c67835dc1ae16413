"""Dataset registration: one file per dataset family."""

from .folder import register_folder_dataset

__all__ = ["register_folder_dataset"]
