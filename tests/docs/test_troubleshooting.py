"""docs/troubleshooting.md quotes the beginnings of messages that the package has."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"\*\*`([^`]+)`\*\*", PAGE)
HOLE = "\0"  # what is filled in when the message is made


def text_of(node):
    """The text of a string in the source, a hole for each value; None of anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[dsr]", HOLE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) or HOLE for part in node.values)
    return None


def all_texts():
    files = [*(ROOT / "segic_d2").rglob("*.py"), *(ROOT / "segic_cli").glob("*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            text = text_of(node)
            if text:
                yield text


TEXTS = list(all_texts())


def quotes(message, text):
    """Whether a message, … for what differs, begins a text with holes, word for word."""
    parts = [re.escape(part) for part in message.split("…")]
    return re.match(".*?".join(parts), text, re.DOTALL) is not None


@pytest.mark.parametrize("message", QUOTED)
def test_the_message_is_in_the_source(message):
    assert len(re.sub(r"\W", "", message)) >= 8
    assert any(quotes(message, text) for text in TEXTS)


def test_a_changed_message_is_noticed():
    text = f"mask is {HOLE}x{HOLE} px, the image"
    assert quotes("mask is …x… px", text) and not quotes("the mask is …x… px", text)
    assert not quotes("mask is …x… px, the picture", text) and not quotes("mask is 3x", text)
    assert len(QUOTED) > 40
