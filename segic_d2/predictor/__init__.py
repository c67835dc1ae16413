"""References in, masks out, for people."""

from .image import PRECISIONS, InContextPredictor
from .video import VideoPredictor
from .video_options import VideoOptions

__all__ = ["PRECISIONS", "InContextPredictor", "VideoOptions", "VideoPredictor"]
