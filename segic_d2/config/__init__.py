"""Every key of a config, its range, and how a config is found by name."""

from .keys import IN_ITERATIONS, add_segic_config
from .load import get_config_file, load_config, merge_options
from .ranges import check_ranges

__all__ = [
    "IN_ITERATIONS",
    "add_segic_config",
    "check_ranges",
    "get_config_file",
    "load_config",
    "merge_options",
]
