"""Damaged data end a run with an error, or are left out and counted (``TEST.DAMAGED``).

Code that finds something damaged calls ``report``. Inside ``leaving_out`` this notes the item, and
the caller goes on without it. Elsewhere it raises an error that names the item.
"""

import contextlib
from contextvars import ContextVar
from dataclasses import dataclass

NAMED = 20  # in one message; the others are counted
ERRORS = (OSError, ValueError)  # what readers and mappers raise for files
_found = ContextVar("segic_d2_damaged", default=None)


class DamagedDataError(ValueError):
    """Several damaged items; the message names up to ``NAMED`` of them."""


@dataclass(frozen=True)
class Damaged:
    """A damaged item. It stands in a batch in place of the item.

    Attributes:
        item: what is left out: a file, an episode or a class.
        reason: one line that names the damaged file.
        image_id: of the target, or None.
    """

    item: str
    reason: str
    image_id: object = None


@contextlib.contextmanager
def leaving_out():
    """A context in which ``report`` notes damaged data and raises nothing.

    Yields:
        dict {item: ``Damaged``}, which is filled as items are found.
    """
    found = {}
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def is_left_out():
    """Whether a ``leaving_out`` is open, so that damaged data are noted."""
    return _found.get() is not None


def noted():
    """What was noted so far, as a list."""
    return list((_found.get() or {}).values())


def note(damages):
    """Note items that are left out, each once. Outside of ``leaving_out`` this does nothing."""
    found = _found.get()
    for damage in damages if found is not None else ():
        found.setdefault(damage.item, damage)


def report(damages, errors=None):
    """Note damaged items inside of ``leaving_out``; elsewhere raise an error that names them.

    Args:
        damages: list of ``Damaged``. If it is empty, nothing happens.
        errors: the exceptions behind them, if any. The error of a single item is raised as it is.

    Raises:
        DamagedDataError: naming up to ``NAMED`` of several items; a single item's own error.
    """
    if not damages:
        return
    if is_left_out():
        note(damages)
    elif len(damages) == 1 and errors:
        raise errors[0]
    else:
        raise DamagedDataError(message(damages))


def message(damages):
    """One line that names up to ``NAMED`` damaged items, each item and each reason once."""
    items = {d.item: d.reason for d in reversed(damages)}  # the first reason of an item stays
    reasons = list(dict.fromkeys(d.reason for d in damages if items[d.item] == d.reason))
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    number = f"{len(reasons)} damaged or missing: " if len(reasons) > 1 else "damaged data: "
    return number + "; ".join(reasons[:NAMED]) + more


def check_policy(cfg):
    """Raise ValueError for a value of ``TEST.DAMAGED`` or ``TEST.VERIFY`` that does not exist."""
    for key, values in (("DAMAGED", ("error", "skip")), ("VERIFY", ("none", "exists", "full"))):
        if cfg.TEST[key] not in values:
            raise ValueError(f"TEST.{key} is {cfg.TEST[key]!r}; it must be one of {values}")


class SkipDamaged:
    """Wraps a mapper: a damaged item becomes ``Damaged``, which the evaluation loop takes out.

    Args:
        mapper: function of an item; it returns what the model reads.
        check: function of an item; it returns the reasons why what the evaluator reads of the item
            is damaged. None: nothing is checked.
    """

    def __init__(self, mapper, check=None):
        self.mapper, self.check = mapper, check

    def __call__(self, item):
        try:
            mapped = self.mapper(item)
            reasons = self.check(item) if self.check else []
        except ERRORS as error:
            reasons = [one_line(error)]
        if not reasons:
            return mapped
        return Damaged(describe(item), reasons[0], field(item, "image_id"))


def one_line(error):
    """An exception's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def field(item, name):
    """A field of a dict or of an object; None if it has no such field."""
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def describe(item):
    """The name of a test loader's item: its episode or pair, else its image."""
    if isinstance(item, tuple):  # a numbered record
        item = item[-1]
    for name, what in (("episode", "episode "), ("number", "episode "), ("pair", "pair ")):
        if field(item, name) is not None:
            return f"{what}{field(item, name)}"
    for name in ("file_name", "target"):
        if field(item, name) is not None:
            return str(field(item, name))
    return str(item)
