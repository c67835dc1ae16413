import numpy as np
import pytest

from segic_d2.structures.prompts import Marked


def masks(*rows):
    return [np.array([list(map(int, row))], dtype=bool) for row in rows]


def test_what_nothing_is_said_of_is_open():
    inside, outside, rest = masks("11000", "00011", "00100")
    np.testing.assert_array_equal(Marked(inside, outside).open, rest)
    assert not Marked.of_mask(inside).open.any()
    np.testing.assert_array_equal(Marked.of_mask(inside).outside, ~inside)


def test_joined_says_what_both_say():
    a, b, c, d = masks("10000", "00001", "01000", "00011")
    both = Marked(a, b).joined(Marked(c, d))
    np.testing.assert_array_equal(both.inside, a | c)
    np.testing.assert_array_equal(both.outside, d)
    with pytest.raises(ValueError, match=r"pixel \(1, 0\) is marked both .*, 1 px in all"):
        Marked(a, c).joined(Marked(c, b))


@pytest.mark.parametrize(
    ("inside", "outside", "message"),
    [
        (np.zeros((2, 3)), np.zeros((2, 3), bool), r"are float64 \(2, 3\); expected bool"),
        (np.zeros((2, 3), bool), np.zeros((3, 2), bool), r"are bool \(3, 2\); expected bool"),
        (np.zeros(3, bool), np.zeros(3, bool), r"are bool \(3,\)"),
        (np.eye(3, dtype=bool), np.ones((3, 3), bool), r"pixel \(0, 0\) is .*, 3 px in all"),
    ],
)
def test_bad_marks(inside, outside, message):
    with pytest.raises(ValueError, match=message):
        Marked(inside, outside)
