"""How a table of keys becomes part of a Detectron2 config, and how its values are checked.

A table is {name as on the command line: :class:`Key`}. Every model brings its own.
"""

import ast
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from detectron2.config import CfgNode


@dataclass(frozen=True)
class Range:
    """Which values a key may have."""

    holds: Callable[[Any], bool]
    text: str  # what a refused value must be

    def __contains__(self, value: Any) -> bool:
        try:
            return self.holds(value)
        except TypeError:  # words in place of numbers
            return False


@dataclass(frozen=True)
class Key:
    """One key of a config."""

    default: Any
    line: str  # what it means
    range: Range | None = None  # None: whoever reads it checks it, or every value will do


def least(low: float) -> Range:
    """Numbers from low on."""
    return Range(lambda value: value >= low, f"at least {low}")


def within(low: float, high: float) -> Range:
    """Numbers from low to high, both allowed."""
    return Range(lambda value: low <= value <= high, f"in [{low}, {high}]")


def below(low: float, high: float) -> Range:
    """Numbers from low to high, high itself left out."""
    return Range(lambda value: low <= value < high, f"in [{low}, {high})")


def above(low: float) -> Range:
    """Numbers over low."""
    return Range(lambda value: value > low, f"above {low}")


def of(*names: str) -> Range:
    """One of some names."""
    text = ", ".join(map(repr, names[:-1])) + f" or {names[-1]!r}"
    return Range(lambda value: value in names, text)


def each(range_: Range) -> Range:
    """Sequences whose every item is in a range."""
    return Range(lambda values: all(map(range_.holds, values)), f"a list, each {range_.text}")


def interval(most: float = float("inf")) -> Range:
    """(low, high) of positive numbers."""
    end = "" if most == float("inf") else f" ≤ {most}"
    return Range(
        lambda value: len(value) == 2 and 0 < value[0] <= value[1] <= most,
        f"(low, high), 0 < low ≤ high{end}",
    )


def section(name: str, **keys: Key) -> dict[str, Key]:
    """The keys of one node of a config, under their full names."""
    return {f"{name}.{leaf}": key for leaf, key in keys.items()}


def add_keys(cfg: CfgNode, table: Mapping[str, Key]) -> None:
    """Add the keys of a table that a config lacks, with their defaults, in place."""
    for name, key in table.items():
        *nodes, leaf = name.split(".")
        node = cfg
        for part in nodes:
            if part not in node:
                node[part] = CfgNode()
            node = node[part]
        # of an earlier call, or of a file: what was chosen stays
        node[leaf] = _like(node[leaf], key.default) if leaf in node else key.default


def _like(value: Any, default: Any) -> Any:
    """A value that a file brought before its key was there, which yacs could not make a tuple."""
    if isinstance(value, str) and not isinstance(default, str):
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
    return tuple(value) if isinstance(value, list) and isinstance(default, tuple) else value


def check_keys(cfg: CfgNode, table: Mapping[str, Key], parts: Sequence[str]) -> None:
    """Look at the values of the keys that are, or begin with, one of some names.

    Raises:
        ValueError: a value out of its range; the key, the value and the range are named.
    """
    for name, key in table.items():
        if key.range is None or not any(f"{name}.".startswith(f"{part}.") for part in parts):
            continue
        value = reduce(getattr, name.split("."), cfg)
        if value not in key.range:
            shown = tuple(value) if isinstance(value, list) else value
            raise ValueError(f"{name} is {shown!r}; it must be {key.range.text}")
