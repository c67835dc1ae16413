"""Every key of a config, its range, and how a config is found by name."""

from .keys import IN_ITERATIONS, KEYS, add_segic_config, check_config
from .load import get_config_file, load_config, merge_options

__all__ = [
    "IN_ITERATIONS",
    "KEYS",
    "add_segic_config",
    "check_config",
    "get_config_file",
    "load_config",
    "merge_options",
]
