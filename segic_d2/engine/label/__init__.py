"""The label loop: a few labelled pictures in, a labelled folder out; corrections make it better."""

from .folder import label_again, label_folder
from .report import LabelReport

__all__ = ["LabelReport", "label_again", "label_folder"]
