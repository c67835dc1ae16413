"""Checkpoints: ours, those that ship, those of the released code, and backbone files."""

from .checkpointer import SegICCheckpointer, frozen_prefixes, save_weights, trainable_state_dict

__all__ = ["SegICCheckpointer", "frozen_prefixes", "save_weights", "trainable_state_dict"]
