"""Checkpoints: ours, those that ship, those of the released code, and backbone files."""

from .checkpointer import FROZEN_PREFIX, SegICCheckpointer, trainable_state_dict

__all__ = ["FROZEN_PREFIX", "SegICCheckpointer", "trainable_state_dict"]
