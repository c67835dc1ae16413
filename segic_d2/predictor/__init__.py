"""References in, masks out, for people."""

from .image import PRECISIONS, InContextPredictor

__all__ = ["PRECISIONS", "InContextPredictor"]
