import pytest

from segic_d2.utils.texts import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("traffic light", "traffic light"),
        ("  a\tb\r\nc\u2028d\x85e ", "a b c d e"),
        ("\x1b[31mred\x1b[0m\x00\x7f", "�[31mred�[0m��"),
        ("a\ud800b\udcff", "a�b�"),
        ("abc\u202ecba\u2066", "abc�cba�"),
        (
            "می\u200cروم 👨\u200d👩\u200d👧 ❤\ufe0f Ünï 狐 $\\frac{$",
            "می\u200cروم 👨\u200d👩\u200d👧 ❤\ufe0f Ünï 狐 $\\frac{$",
        ),
        ("", ""),
    ],
)
def test_one_line(text, shown):
    assert one_line(text) == shown
    assert printable(shown) == one_line(shown) == shown == shown.encode().decode()


def test_printable_keeps_spaces():
    assert printable("/a  b/c\nd\t.png") == "/a  b/c\ufffdd\ufffd.png"
