"""Reads pickled lists without running code: plain containers, text and numbers only."""

import pickle


class _Plain(pickle.Unpickler):
    """An unpickler that imports nothing, so that a file cannot make it call anything."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"it wants to import {module}.{name}")

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to objects outside of the file")


def read_plain_pickle(path):
    """The content of a pickle that holds dicts, lists, tuples, text, bytes and numbers.

    Everything else in a pickle needs an import, and importing is refused: a pickle from the web
    could otherwise run any program. Sets need no import from protocol 4 on.

    Raises:
        ValueError: naming the file, if it holds anything else or is no readable pickle.
    """
    with open(path, "rb") as file:
        try:
            return _Plain(file).load()
        except Exception as error:  # broken pickles fail in many ways: EOFError, IndexError, …
            raise ValueError(
                f"cannot read {path} as a pickle of plain lists and dicts: {error}"
            ) from error
