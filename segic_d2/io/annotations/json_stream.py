"""A large JSON file, an element at a time: what Python makes of it whole is ten times as large."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHUNK = 1 << 20  # characters read at once, more where an element is longer
SPACE = re.compile(r"[ \t\r\n]*")


class _Text:
    """A text that is read as it is needed; ``at`` is where the next value begins."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.text, self.at, self.ended = file, "", 0, False
        self.decoder = json.JSONDecoder()

    def more(self) -> None:
        rest = self.text[self.at :]
        read = self.file.read(max(CHUNK, len(rest)))
        self.text, self.at, self.ended = rest + read, 0, not read

    def sign(self) -> str:
        """The next character that is no space, which stays; "" at the end."""
        while True:
            self.at = SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()

    def take(self, expected: str) -> str:
        found = self.sign()
        if not found or found not in expected:
            raise ValueError(f"expected one of {' '.join(expected)}, found {found or 'its end'!r}")
        self.at += 1
        return found

    def value(self) -> Any:
        """The next value. It is whole only where something follows it."""
        self.sign()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError:
                if self.ended:
                    raise
            else:
                if end < len(self.text) or self.ended:
                    self.at = end
                    return value
            self.more()


def elements(file: Path) -> Iterator[tuple[str, Any]]:
    """Yield (key, element) for each element of each list of a file that holds one dict, in the
    file's order, and (key, value) for what is no list. A list that is empty yields (key, None).
    ValueError: naming the file, where it is no such JSON."""
    with open(file, "rb") as start:
        wide = start.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # as Windows writes it
    with open(file, encoding="utf-16" if wide else "utf-8-sig") as opened:
        text = _Text(opened)
        try:
            text.take("{")
            if text.sign() == "}":
                return
            while True:
                key = text.value()
                text.take(":")
                if text.sign() == "[":
                    text.take("[")
                    if text.sign() == "]":
                        yield key, None
                        text.take("]")
                    else:
                        yield key, text.value()
                        while text.take(",]") == ",":
                            yield key, text.value()
                else:
                    yield key, text.value()
                if text.take(",}") == "}":
                    break
            if rest := text.sign():
                raise ValueError(f"it goes on behind its end, with {rest!r}")
        except (ValueError, RecursionError) as error:
            raise ValueError(f"cannot read {file}: {error}") from error
