"""Reads pickled lists without running code: plain containers, text and numbers only."""

import os
import pickle
import pickletools
from typing import IO, Any

from ...utils.files import AnyPath


class _Plain(pickle.Unpickler):
    """An unpickler that imports nothing, so that a file cannot make it call anything."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it wants to import {module}.{name}")

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to objects outside of the file")


def _check_memo(file: IO[bytes]) -> None:
    """Raise UnpicklingError where a few bytes ask for a table of 2³² entries: whoever writes a
    pickle numbers what it keeps one by one."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    for operation, argument, _ in pickletools.genops(file):
        if operation.name.endswith("PUT") and not 0 <= int(argument) <= size:
            raise pickle.UnpicklingError(f"it keeps an object as number {argument}")
    file.seek(0)


def read_plain_pickle(path: AnyPath) -> Any:
    """The content of a pickle of dicts, lists, tuples, text, bytes and numbers. All else needs an
    import, which is refused: a pickle from the web could otherwise run any program. (Sets need none
    from protocol 4 on.) ValueError: naming the file of anything else, or that is unreadable."""
    with open(path, "rb") as file:
        try:
            _check_memo(file)
            return _Plain(file).load()
        except Exception as error:  # broken pickles fail in many ways: EOFError, IndexError, …
            raise ValueError(
                f"cannot read {path} as a pickle of plain lists and dicts: {error}"
            ) from error
