"""Things that look the same, cross and hide; cuts between shots."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from segic_d2.evaluation.switches import identity_switches
from tests.predictor.clips import (
    alike,
    followed,
    frame,
    iou,
    labels,
    shape,
    video,
)


def test_a_cut_is_survived(colours):
    made, _ = followed(colours, range(5), kind="fifo", window=0.3)
    assert made.memory[1].recent
    # another shot: the objects are elsewhere, on another ground
    other = frame(20, ground=30)
    result = made.step(other)
    assert not made.memory[1].recent
    moved = labels(20)
    assert iou(result.masks[0], moved == 1) > 0.6


def test_a_window_keeps_to_what_is_near_until_the_object_is_lost(colours):
    made, _ = followed(colours, range(2), window=0.2, lost=3)
    away = frame(0, ())
    moved = shape(60, 110)
    away[moved] = frame(0, (1,))[shape(14, 14)][: moved.sum()]
    found = [bool(made.step(away).masks[0].any()) for _ in range(5)]
    assert found == [False, False, False, True, True]


def test_a_false_spot_does_not_keep_a_lost_object_from_coming_back(colours, monkeypatch):
    made, _ = followed(colours, range(2), ids=(1,), window=0.5, lost=3)
    model, own = made._decoded, made.memory[1].own_score
    spot, back = np.zeros((2, *frame(0).shape[:2]), bool)
    spot[4:14, 150:160] = True
    back |= shape(60, 20)

    def seen(where, share):
        """What is shown where the model says that, at a share of the object's own score."""

        def decoded(features):
            found = model(features)
            side = found.logits.shape[-1]
            step = found.frame.canvas // side
            logits = torch.full((1, side, side), found.threshold - 3)
            marked = torch.from_numpy(where[::step, ::step])
            logits[0, : len(marked)][marked] = found.threshold + 3
            return replace(found, logits=logits, scores=torch.tensor([share * own]))

        monkeypatch.setattr(made, "_decoded", decoded)
        return made.step(frame(0, ())).masks[0]

    for _ in range(4):
        assert not seen(spot, 0.3).any()
    assert iou(seen(spot, 0.6), spot) > 0.5  # shown, but not believed
    assert iou(seen(back, 0.7), back) > 0.9
    assert iou(seen(back, 0.9), back) > 0.9
    assert not seen(spot, 0.9).any()  # the window is about it again


@pytest.mark.parametrize("down", [0, 20, 34])
def test_look_alikes_cross_and_stay_who_they_are(colours, down):
    made = video(colours, window=0.5)
    made.add(*alike(0, down=down))
    scores = {1: [], 3: []}
    for number in range(29):
        picture, truth = alike(number, down=down)
        found = made.step(picture).label_map()
        for i, kept in scores.items():
            kept.append(iou(found == i, truth == i))
    assert min(scores[1][20:] + scores[3][20:]) > 0.6
    without = video(colours, window=0)
    without.add(*alike(0, down=down))
    lost = without.step(alike(5, down=down)[0]).label_map()
    assert iou(lost == 3, alike(5, down=down)[1] == 3) < 0.3  # nothing tells them apart


@pytest.mark.parametrize("hidden, there", [(1, 3), (3, 1)])
def test_a_hidden_look_alike_is_not_the_other_one(colours, hidden, there):
    made = video(colours, window=0.5)
    made.add(*alike(0))
    for number in range(15):
        away = 3 <= number < 13
        picture, truth = alike(0, (there,) if away else (1, 3))
        result = made.step(picture)
        found = result.label_map()
        assert iou(found == there, truth == there) > 0.7
        assert (found == hidden).any() != away
        if not away:
            assert iou(found == hidden, truth == hidden) > 0.7


@pytest.mark.parametrize("down", [0, 20, 34])
@pytest.mark.parametrize("hidden", [1, 3])
def test_look_alikes_cross_while_one_is_hidden_for_ten_frames(colours, hidden, down):
    made = video(colours, window=0.5)
    made.add(*alike(0, down=down))
    truth, found, away = [], [], range(10, 20)
    for number in range(29):
        shown = tuple({1, 3} - {hidden}) if number in away else (1, 3)
        picture, true = alike(number, shown, down)
        truth.append(true)
        found.append(made.step(picture).label_map())
    assert identity_switches(truth, found) == {1: 0, 3: 0}
    assert not any((found[number] == hidden).any() for number in away)
    for number in (*range(8), *range(22, 29)):
        for i in (1, 3):
            assert iou(found[number] == i, truth[number] == i) > 0.6
