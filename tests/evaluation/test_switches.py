import numpy as np
import pytest

from segic_d2.evaluation import identity_switches


def row(*cells):
    """A label map of one row."""
    return np.array([cells], dtype=np.uint8)


def test_a_swap_counts_once_where_it_happens():
    truth = [row(1, 1, 0, 2, 2)] * 6
    other = row(2, 2, 0, 1, 1)
    assert identity_switches(truth, truth) == {1: 0, 2: 0}
    assert identity_switches(truth, [*truth[:3], other, other, other]) == {1: 1, 2: 1}
    assert identity_switches(truth, [*truth[:3], other, *truth[4:]]) == {1: 2, 2: 2}  # and back
    assert identity_switches(truth, [other] * 6) == {1: 0, 2: 0}  # wrong, and steady


def test_a_switch_is_found_over_a_gap():
    truth = [row(3, 3, 3, 0)] * 5
    lost, half = row(0, 0, 0, 0), row(7, 0, 0, 0)  # half: IoU 1/3
    seen, other = row(3, 3, 3, 0), row(0, 8, 8, 8)  # other: IoU 2/4
    assert identity_switches(truth, [seen, lost, half, seen, seen]) == {3: 0}
    assert identity_switches(truth, [seen, lost, half, other, other]) == {3: 1}
    hidden = [row(3, 3, 3, 0), lost, lost, row(3, 3, 3, 0), row(3, 3, 3, 0)]
    assert identity_switches(hidden, [seen, other, other, seen, seen]) == {3: 0}
    assert identity_switches(truth, [lost] * 5) == {3: 0}


def test_a_tie_keeps_the_id_and_void_is_no_object():
    truth = [row(4, 4, 255, 255)] * 3
    tie = row(2, 9, 0, 0)
    whole = row(9, 9, 5, 5)
    assert identity_switches(truth, [whole, tie, whole]) == {4: 0}
    assert identity_switches(truth, [tie, whole, whole]) == {4: 1}  # 2, the lower id, then 9


@pytest.mark.parametrize("seed", range(4))
def test_against_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = np.zeros((2, 20, 8, 12), dtype=np.uint8)
    for k, x in ((1, 0), (44, 4), (6, 8)):
        truth[:, 1:7, x : x + 3] = k
        for t in range(20):
            predicted[t, 1 : rng.integers(3, 8), x : x + 3] = rng.integers(0, 4)
    expected = {}
    for k in (1, 44, 6):
        last, count = None, 0
        for a, b in zip(truth, predicted, strict=True):
            ious = {
                p: ((a == k) & (b == p)).sum() / ((a == k) | (b == p)).sum()
                for p in (1, 2, 3)
                if ((a == k) & (b == p)).any()
            }
            fits = [p for p, iou in ious.items() if iou >= 0.5]
            if fits and last not in fits:
                count += last is not None
                last = fits[0]
        expected[k] = count
    assert identity_switches(truth, predicted) == expected
    assert sum(expected.values()) > 0


def test_misuse_is_one_line():
    with pytest.raises(ValueError, match="cat: 1 frames are predicted, 2 are annotated"):
        identity_switches([row(1)] * 2, [row(1)], name="cat")
    with pytest.raises(ValueError, match="frame 1: the prediction is 1x2, the truth 1x1"):
        identity_switches([row(1)] * 2, [row(1), row(1, 1)])
