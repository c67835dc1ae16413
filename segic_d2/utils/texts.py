"""Texts of strangers, as they can be shown."""

JOINERS = "\u200c\u200d"  # without a width, but letters of several scripts and emoji need them


def printable(text: str) -> str:
    """A text that can be printed, drawn and encoded: what cannot be seen (control characters, ends
    of lines, halves of pairs, turns of direction) is "�"."""
    return "".join(c if c.isprintable() or c in JOINERS else "\ufffd" for c in text)


def one_line(text: str) -> str:
    """A text as one ``printable`` line, in which any white space is a space."""
    return printable(" ".join(text.split()))
