"""Texts of strangers, as they can be shown; and of ours to them."""

import sys
from sysconfig import get_path

JOINERS = "\u200c\u200d"  # without a width, but letters of several scripts and emoji need them


def printable(text: str) -> str:
    """A text that can be printed, drawn and encoded: what cannot be seen (control characters, ends
    of lines, halves of pairs, turns of direction) is "�"."""
    return "".join(c if c.isprintable() or c in JOINERS else "\ufffd" for c in text)


def one_line(text: str) -> str:
    """A text as one ``printable`` line, in which any white space is a space."""
    return printable(" ".join(text.split()))


def without_detectron2() -> str:
    """How to install Detectron2, without which nothing works."""
    return (
        "segic_d2 needs detectron2, which no package index carries under its name. Without a "
        "compiler, as pure Python:\n    pip install --no-deps --only-binary=:all: --python-version "
        f"3.10 --implementation cp --abi none --platform any --target {get_path('purelib')}"
        f" sal-detectron2==0.7.2\n(in a checkout: make setup VENV={sys.prefix}), or with its "
        "compiled operators:\n    pip install --no-build-isolation --no-deps "
        "git+https://github.com/facebookresearch/detectron2.git@a59f0563"
    )
