"""What is marked in a frame: ids, names, self-IoU, corrections, views."""

import logging

import numpy as np
import pytest
import torch

from tests.predictor.clips import (
    SIZE,
    followed,
    frame,
    iou,
    labels,
    shape,
    video,
)

# ---- add, correct, remove -------------------------------------------------------------------


def test_ids_and_names_may_be_chosen(colours):
    made = video(colours)
    made.add(frame(0), labels(0), ids=[12, 5], names={5: "blue", 12: "red"})
    result = made.step(frame(0))
    assert result.ids == [5, 12] and result.names == ["blue", "red"]
    np.testing.assert_array_equal(result.label_map() == 12, labels(0) == 1)
    made.add(frame(1), {"box": [10, 10, 62, 62]}, ids=[7])
    assert made.objects == {5: "blue", 7: None, 12: "red"}


@pytest.mark.parametrize(
    "ids, error",
    [
        ([1], "2 things"),
        ([4, 4], "distinct"),
        ([0, 2], "above 0"),
        ([1, -2], "above 0"),
        ([1.5, 2], r"whole numbers above 0, not \[1.5, 2\]"),
        (["a", "b"], "whole numbers above 0"),
    ],
)
def test_odd_ids_are_named(colours, ids, error):
    made = video(colours)
    with pytest.raises(ValueError, match=error):
        made.add(frame(0), labels(0), ids=ids)
    assert not made.objects


def test_self_iou_is_told_and_a_low_one_warned_of(colours, caplog):
    made = video(colours)
    with caplog.at_level(logging.INFO, "segic_d2.predictor.video"):
        told = made.add(frame(0), labels(0), names=["red", "blue"])
    assert set(told) == {1, 3} and min(told.values()) > 0.7
    assert [r.levelname for r in caplog.records] == ["INFO", "INFO"]
    assert "object 1 (red): the model finds it in its own frame" in caplog.text
    caplog.clear()
    odd = np.zeros(SIZE, np.uint8)
    odd[:50, 90:110] = 2  # of the ground, which is everywhere
    assert made.add(frame(0), odd)[2] < 0.5
    assert "expect bad masks" in caplog.records[-1].message
    assert caplog.records[-1].levelname == "WARNING"


def test_an_object_that_is_not_believed_does_not_write(colours):
    odd = np.zeros(SIZE, np.uint8)
    odd[:50, 90:110] = 2
    made = video(colours, "last", memory={"gate": 0}, absent=0)
    made.add(frame(0), np.where(odd > 0, odd, labels(0, (1,))))
    for number in range(4):
        made.step(frame(number))
    assert len(made.memory[1].recent) == 1 and not made.memory[2].recent


@pytest.mark.parametrize("kind", ["first", "fifo"])
def test_a_correction_changes_the_next_frames(colours, kind):
    made, plain = video(colours, kind), video(colours, kind)
    wrong = np.zeros(SIZE, np.uint8)
    wrong[shape(14, 14)] = 1
    wrong[shape(56, 112)] = 1  # the blue one is taken for a part of it
    for one in (made, plain):
        one.add(frame(0), wrong)
        for number in range(3):
            one.step(frame(number))
    made.add(frame(2), (labels(2) == 1).astype(np.uint8))
    assert not made.memory[1].recent
    before, after = plain.step(frame(3)), made.step(frame(3))
    truth = labels(3) == 1
    assert iou(after.masks[0], truth) > iou(before.masks[0], truth) + 0.05


def test_a_correction_may_name_what_it_corrects(colours):
    made = video(colours)
    made.add(frame(0), labels(0), names={1: "a"})
    made.add(frame(1), labels(1), names={3: "b"})
    assert made.objects == {1: "a", 3: "b"}
    made.add(frame(1), labels(1, (1,)), names="z")
    assert made.objects == {1: "z", 3: "b"} and made.step(frame(2)).names == ["z", "b"]


def test_what_is_removed_is_gone(colours):
    made, _ = followed(colours, range(2))
    made.remove(1)
    assert made.step(frame(2)).ids == [3] and made.objects == {3: None}
    with pytest.raises(ValueError, match="no object 1"):
        made.remove(1)
    made.reset()
    assert made.frame_number == 0 and not made.objects
    with pytest.raises(RuntimeError, match="nothing is followed"):
        made.step(frame(0))


# ---- views of the given masks ---------------------------------------------------------


def test_small_objects_are_seen_together_and_close_up(colours):
    made = video(colours)
    made.add(frame(0), labels(0))
    context = made.memory.read()
    assert context.shots.tolist() == [[True, True], [True, True]]
    for views, same in ((("joint",), 0), (("close",), 1)):
        other = video(colours, views=views)
        other.add(frame(0), labels(0))
        single = other.memory.read()
        assert single.shots.tolist() == [[True], [True]]
        for name, values in single.tensors.items():
            torch.testing.assert_close(values[:, 0], context.tensors[name][:, same])
    made.reset()
    made.add(frame(0, (1,)), labels(0, (1,)))  # together it is as close
    assert made.memory.read().shots.tolist() == [[True]]
