import pytest

from segic_d2.predictor.motion import Motion, meeting


def box(x, width=0.2):
    return x, 0.4, x + width, 0.6


def followed(boxes, lost=3, met=False):
    motion = Motion()
    for seen in boxes:
        motion = motion.after(seen, lost, met)
    return motion


def test_it_goes_on_as_it_moved():
    motion = followed([box(0.05 * n) for n in range(40)])
    assert motion.velocity == pytest.approx((0.05, 0), abs=1e-4)
    assert motion.expected == pytest.approx(box(0.05 * 40), abs=1e-4)
    assert Motion().expected is None and followed([box(0.3)]).expected == box(0.3)


def test_it_is_expected_while_it_is_hidden_and_not_for_ever():
    moving = [box(0.02 * n) for n in range(30)]
    for count in (1, 2):
        motion = followed(moving + [None] * count)
        assert motion.missed == count
        assert motion.expected == pytest.approx(box(0.02 * (30 + count)), abs=2e-3)
    lost = followed(moving + [None] * 3)
    assert lost.expected is None
    assert lost.after(box(0.7), 3).expected == box(0.7)


def test_half_of_it_does_not_stop_it():
    moving = [box(0.02 * n) for n in range(30)]
    half = [box(0.02 * n, width=0.1) for n in (30, 31)]
    motion = followed(moving + half)
    assert motion.odd == 2 and motion.velocity == followed(moving).velocity
    whole = motion.expected
    assert whole[2] - whole[0] == pytest.approx(0.2)
    assert whole == pytest.approx(box(0.02 * 32), abs=0.03)
    smaller = followed(moving + [box(0.6, width=0.1)] * 4)  # for good
    assert smaller.box == box(0.6, width=0.1) and smaller.odd == 0


def test_who_meets_another_goes_on_as_before():
    moving = followed([box(0.02 * n) for n in range(30)])
    assert moving.after(box(0.5), 3, met=True).velocity == moving.velocity
    assert moving.after(box(0.5), 3).velocity != moving.velocity
    assert meeting([box(0.1), None, box(0.2), box(0.7)]) == [True, False, True, False]


def test_of_one_that_was_missed_only_what_is_sure_counts():
    moving = followed([box(0.02 * n) for n in range(30)])
    doubtful = moving.after(box(0.1), 3, sure=False)
    assert doubtful == moving.after(box(0.1), 3)  # it was there in the frame before
    missed = moving.after(None, 3)
    assert missed.after(box(0.1), 3, sure=False) == missed.after(None, 3)
    assert missed.after(box(0.1), 3).missed == 0
    lost = followed([box(0.02 * n) for n in range(30)] + [None] * 3)
    assert lost.after(box(0.1), 3, sure=False).expected is None
    assert Motion().after(box(0.1), 3, sure=False).expected == box(0.1)  # a new one
