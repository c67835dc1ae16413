"""Videos with masks: data sets for following objects. Importing registers them."""

from .clip import VideoClip
from .sets import load_videos, register_all_videos

__all__ = ["VideoClip", "load_videos", "register_all_videos"]
