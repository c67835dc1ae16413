"""Competing objects of a frame, against slow references."""

import numpy as np
import pytest
import torch

from segic_d2.predictor.merging import (
    box_iou,
    boxes_of,
    inside,
    merged,
    nearest_first,
    soft_logits,
    with_given,
    within_windows,
    without,
)
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation

FRAME = Frame(16, (12, 16), (24, 32))


def found(count=3, threshold=-0.5, seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, 16, 16, generator=g) * 2
    ids = [2, 5, 9][:count]
    return Segmentation(logits, torch.full((count,), 0.5), ids, [None] * count, FRAME, threshold)


def test_soft_aggregation_is_that_of_the_background_and_the_odds():
    """0.45 and 0.45 leave 0.3 to the background, so that the first of the two wins."""
    logits = torch.logit(torch.tensor([0.45, 0.45]))[:, None, None]
    assert (soft_logits(logits) > 0).all() and not (logits > 0).any()
    one = torch.linspace(-4, 4, 9).view(1, 3, 3)
    assert torch.equal(soft_logits(one) > 0, one > 0)  # of one object as it is
    above = found().logits + 0.5
    label = soft_logits(above).argmax(0) + 1
    label[(soft_logits(above) <= 0).all(0)] = 0
    for y in range(16):
        for x in range(16):
            p = above[:, y, x].double().sigmoid()
            background = float(np.prod([1 - float(q) for q in p]))
            odds = [background / (1 - background), *(float(q / (1 - q)) for q in p)]
            assert label[y, x] == odds.index(max(odds))


def test_a_pixel_has_one_object_or_each_its_own():
    one = merged(found(), "argmax")
    full = FRAME.upsample(found().logits)
    best = full.argmax(0)
    best[(full <= -0.5).all(0)] = 3
    assert torch.equal(one.masks, torch.stack([best == k for k in range(3)]))
    assert torch.equal(merged(found(), "independent").masks, full > -0.5)
    ids = torch.tensor([2, 5, 9, 0])
    assert torch.equal(one.label_map(), ids[best].int())


def test_of_equal_logits_the_first_wins():
    one = found(2)
    one.logits = torch.ones(2, 16, 16)
    for how in ("argmax", "soft"):
        assert merged(one, how).masks.flatten(1).all(1).tolist() == [True, False]


def test_windows_are_of_the_last_box_and_a_margin():
    one = found(2)
    one.logits = torch.ones(2, 16, 16)
    box = 0.25, 0.0, 0.5, 0.5  # x 4 to 8, y 0 to 6 px of the content
    kept = within_windows(one, [box, None], [0.5, 0.5])
    inside_window = kept.logits[0] > one.threshold
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[0:9, 1:11] = True  # 3 px more on each side
    assert torch.equal(inside_window, expected)
    assert torch.equal(kept.logits[1], one.logits[1])
    assert within_windows(one, [None] * 2, [1, 1]) is one
    assert one.logits.min() == 1


def test_boxes_are_shares_of_the_content():
    one = found(2)
    one.logits = torch.full((2, 16, 16), -9.0)
    one.logits[0, 3:6, 4:8] = 5
    one.logits[1, 14:, :] = 5  # in the padding alone
    assert boxes_of(inside(one)) == [(0.25, 0.25, 0.5, 0.5), None]


def test_who_is_absent_is_nowhere():
    one = found()
    kept = without(one, [False, True, False])
    assert not kept.masks[1].any() and torch.equal(kept.logits[::2], one.logits[::2])
    assert without(one, [False] * 3) is one


@pytest.mark.parametrize("how", ["argmax", "independent"])
def test_what_is_given_is_exact(how):
    one, mask = merged(found(), how), np.zeros((24, 32), bool)
    mask[3:11, 5:18] = True
    mask[0, 0] = mask[23, 31] = True
    shown = with_given(one, {5: mask})
    np.testing.assert_array_equal(shown.masks[1].numpy(), mask)
    for row in (0, 2):
        before, after = one.masks[row].numpy(), shown.masks[row].numpy()
        if how == "independent":
            np.testing.assert_array_equal(before, after)
        else:
            assert not (after & mask).any()
    assert shown.scores.tolist() == [0.5, 1.0, 0.5] and one.scores.tolist() == [0.5] * 3
    if how == "argmax":
        np.testing.assert_array_equal((shown.label_map() == 5).numpy(), mask)
    assert with_given(one, {}) is one


def test_overlap_of_boxes():
    assert box_iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert box_iou((0, 0, 1, 1), (1, 0, 2, 1)) == box_iou((0, 0, 1, 1), (5, 5, 6, 6)) == 0
    assert box_iou((1, 2, 3, 4), (1, 2, 3, 4)) == pytest.approx(1)


def test_what_two_mark_goes_to_the_nearer_one():
    one = found(3)
    one.logits = torch.full((3, 16, 16), -3.0)
    one.logits[:, 2:6, :12] = 2.0  # all three mark the same
    boxes = (0.0, 0.0, 0.25, 0.5), (0.5, 0.0, 0.75, 0.5), None  # x 0 to 4, 8 to 12 px; lost
    shown = merged(nearest_first(one, boxes), "argmax")
    inside_mask = inside(shown)[:, 2:6, :12]
    assert inside_mask[0, :, :6].all() and inside_mask[1, :, 6:].all()
    assert inside_mask.sum() == 4 * 12 and torch.equal(one.logits[0], one.logits[1])
    assert nearest_first(one, [None] * 3) is one
    one.logits[0, 2:6, :12] = 9.0  # who is much surer takes what is farther
    assert inside(merged(nearest_first(one, boxes), "argmax"))[0, 2:6, :12].all()


def test_a_region_with_room_for_one_goes_to_one_as_a_whole():
    one = found(2)
    one.logits = torch.full((2, 16, 16), -3.0)
    one.logits[:, 2:6, 3:8] = 2.0  # both mark the same 5 x 4 px
    boxes = (0.25, 0.2, 0.5, 0.5), (0.0, 0.2, 0.25, 0.5)

    def shares(sizes, missed):
        shown = merged(nearest_first(one, boxes, sizes, missed), "argmax")
        return inside(shown).flatten(1).sum(1).tolist()

    assert min(shares((), ())) > 0 and sum(shares((), ())) == 20  # side by side
    room = 5 / 16, 4 / 12
    assert shares((room, room), (False, False)) == [20, 0]
    assert shares((room, room), (True, False)) == [0, 20]  # it was not seen
    small = 4 / 16, 4 / 12
    assert shares((small, room), (False, False)) == shares((), ())  # 5 > 1.2 x 4
