"""Damaged data end a run with an error, or are left out and counted (``TEST.DAMAGED``). Code that
finds something damaged calls ``report``: inside ``leaving_out`` this notes the item, and the caller
goes on without it; elsewhere it raises an error that names the item."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ...utils.files import AnyPath

NAMED = 20  # in one message; the others are counted
ERRORS = (OSError, ValueError)  # what readers and mappers raise for files
_found = ContextVar("segic_d2_damaged", default=None)


class DamagedDataError(ValueError):
    """Several damaged items; the message names up to ``NAMED`` of them."""


@dataclass(frozen=True)
class Damaged:
    """A damaged item, which stands in a batch in place of it: what is left out (a file, an episode
    or a class), one line that names the damaged file, and the target's image_id or None."""

    item: str
    reason: str
    image_id: object = None


@contextlib.contextmanager
def leaving_out() -> Iterator[dict[str, Damaged]]:
    """A context in which ``report`` notes damaged data and raises nothing. It yields a dict {item:
    ``Damaged``}, which is filled as items are found."""
    found = {}
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def is_left_out() -> bool:
    """Whether a ``leaving_out`` is open, so that damaged data are noted."""
    return _found.get() is not None


def noted() -> list[Damaged]:
    """What was noted so far, as a list."""
    return list((_found.get() or {}).values())


def note(damages: Iterable[Damaged]) -> None:
    """Note items that are left out, each once. Outside of ``leaving_out`` this does nothing."""
    found = _found.get()
    for damage in damages if found is not None else ():
        found.setdefault(damage.item, damage)


def report(damages: Sequence[Damaged], errors: Sequence[Exception] | None = None) -> None:
    """Note damaged items inside of ``leaving_out``; elsewhere raise DamagedDataError, which names
    up to ``NAMED`` of them. ``errors`` are the exceptions behind them; that of a single item is
    raised as it is. No items: nothing happens."""
    if not damages:
        return
    if is_left_out():
        note(damages)
    elif len(damages) == 1 and errors:
        raise errors[0]
    else:
        raise DamagedDataError(message(damages))


def report_errors(errors: Mapping[AnyPath, Exception]) -> None:
    """``report`` of what is wrong with files, given as dict file → error."""
    report([Damaged(str(f), one_line(e)) for f, e in errors.items()], list(errors.values()))


def message(damages: Sequence[Damaged]) -> str:
    """One line that names up to ``NAMED`` damaged items, each item and each reason once."""
    items = {d.item: d.reason for d in reversed(damages)}  # the first reason of an item stays
    reasons = list(dict.fromkeys(d.reason for d in damages if items[d.item] == d.reason))
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    number = f"{len(reasons)} damaged or missing: " if len(reasons) > 1 else "damaged data: "
    return number + "; ".join(reasons[:NAMED]) + more


class SkipDamaged:
    """Wraps a mapper: a damaged item becomes ``Damaged``, which the evaluation loop takes out.
    ``check`` gives the reasons why what the evaluator reads of an item is damaged; None: not
    checked."""

    def __init__(
        self,
        mapper: Callable[[Any], dict[str, Any]],
        check: Callable[[Any], list[str]] | None = None,
    ) -> None:
        self.mapper, self.check = mapper, check

    def __call__(self, item: Any) -> dict[str, Any] | Damaged:
        try:
            mapped = self.mapper(item)
            reasons = self.check(item) if self.check else []
        except ERRORS as error:
            reasons = [one_line(error)]
        if not reasons:
            return mapped
        return Damaged(describe(item), reasons[0], field(item, "image_id"))


def one_line(error: BaseException) -> str:
    """An exception's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def field(item: Any, name: str) -> Any:
    """A field of a dict or of an object; None if it has no such field."""
    return item.get(name) if isinstance(item, dict) else getattr(item, name, None)


def describe(item: Any) -> str:
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
