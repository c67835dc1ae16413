"""Texts of strangers, as they can be shown."""

JOINERS = "\u200c\u200d"  # without a width, but letters of several scripts and emoji need them


def one_line(text: str) -> str:
    """A text as one line that can be printed, drawn and encoded: any white space is a space, and
    what cannot be seen (control characters, halves of pairs, turns of direction) is "�"."""
    seen = (c if c.isprintable() or c in JOINERS else "\ufffd" for c in " ".join(text.split()))
    return "".join(seen)
