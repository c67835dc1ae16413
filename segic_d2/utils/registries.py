"""What a registry holds by a name that a config gives."""

import difflib
from typing import Any

from detectron2.utils.registry import Registry


def find_registered(registry: Registry, name: str, key: str) -> Any:
    """What ``registry`` holds as ``name``, the value of the config's ``key``; ValueError: nothing,
    with the names that are near, or all."""
    if name in registry:
        return registry.get(name)
    names = sorted(known for known, _ in registry)
    near = difflib.get_close_matches(name, names, n=3)
    known = f"similar: {', '.join(near)}" if near else f"there are {', '.join(names)}"
    raise ValueError(f"{key} {name!r} is not registered; {known}")
