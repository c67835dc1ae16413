"""Objects followed through toy videos."""

import numpy as np
import pytest
import torch

from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.structures.memory import KINDS
from tests.predictor.clips import (
    SIZE,
    colour_predictor,
    followed,
    frame,
    iou,
    labels,
    shape,
    video,
)
from tests.tiny import tiny_config

# ---- ids, late and hidden objects -----------------------------------------------------


@pytest.mark.parametrize("kind", ["first", "fifo", "last"])
def test_ids_are_those_that_were_given(colours, kind):
    made, results = followed(colours, kind=kind)
    assert made.objects == {1: None, 3: None} and made.frame_number == 8
    np.testing.assert_array_equal(results[0].label_map(), labels(0))  # the given frame, exactly
    for number, result in enumerate(results):
        assert result.ids == [1, 3] and result.masks.shape == (2, *SIZE)
        assert result.label_map().dtype == np.int32
        for row, i in enumerate(result.ids):
            assert iou(result.masks[row], labels(number) == i) > 0.7
            np.testing.assert_array_equal(result.masks[row], result.label_map() == i)


def test_an_object_that_starts_late_changes_no_bit_of_independent_others(colours):
    _, alone = followed(colours, ids=(1, 3, 4), merge="independent")
    made = video(colours, merge="independent")
    made.add(frame(0, (1, 3, 4)), labels(0))
    results = []
    for number in range(8):
        if number == 3:
            made.add(frame(3, (1, 3, 4)), labels(3, (4,)), names="late")
        results.append(made.step(frame(number, (1, 3, 4))))
    without = video(colours, merge="independent")
    without.add(frame(0, (1, 3, 4)), labels(0))
    for number, result in enumerate(results):
        plain = without.step(frame(number, (1, 3, 4)))
        assert result.ids == ([1, 3] if number < 3 else [1, 3, 4])
        np.testing.assert_array_equal(result.masks[:2], plain.masks)
        if number:  # of the first the logits are of its own size
            np.testing.assert_array_equal(alone[number].ids, [1, 3, 4])
    assert results[3].names == [None, None, "late"]
    assert iou(results[6].masks[2], labels(6, (4,)) == 4) > 0.7


@pytest.mark.parametrize("kind", ["first", "fifo", "last"])
def test_a_hidden_object_is_absent_and_comes_back(colours, kind):
    made = video(colours, kind)
    made.add(frame(0), labels(0))
    for number in range(10):
        shown, before = (1,) if 3 <= number < 7 else (1, 3), len(made.memory[3].recent)
        result = made.step(frame(number, shown))
        if shown == (1,):
            assert result.ids == [1, 3] and not result.masks[1].any()
            assert 3 not in result.label_map() and len(made.memory[3].recent) == before
        else:
            assert iou(result.masks[1], labels(number) == 3) > 0.7


def test_a_frame_is_another_size(colours):
    made, _ = followed(colours, range(2))
    large = frame(2).repeat(2, 0).repeat(2, 1)
    result = made.step(large)
    assert result.masks.shape == (2, 224, 336)
    assert iou(result.masks[0], labels(2).repeat(2, 0).repeat(2, 1) == 1) > 0.7
    assert made.step(frame(3)).masks.shape == (2, *SIZE)


def test_frames_may_be_files(colours, tmp_path):
    from PIL import Image

    Image.fromarray(frame(0)).save(tmp_path / "0.png")
    Image.fromarray(labels(0)).save(tmp_path / "mask.png")  # grey, with ids
    made = video(colours)
    assert sorted(made.add(tmp_path / "0.png", tmp_path / "mask.png")) == [1, 3]
    result = made.step(tmp_path / "0.png")
    assert result.file_name == str(tmp_path / "0.png")
    np.testing.assert_array_equal(result.label_map(), labels(0))


# ---- classes --------------------------------------------------------------------------------


def test_the_objects_of_a_class_get_ids_of_their_own(colours):
    colours.set_references([(frame(0, (1,)), labels(0, (1,)) > 0, "red")])
    made = VideoPredictor(colours)
    made.follow_references()
    with pytest.raises(RuntimeError, match="classes are followed"):
        made.add(frame(0), labels(0))

    def two(number):
        picture = frame(number, (1,))
        place = shape(60, 120 - 3 * number)
        picture[place] = frame(0, (1,))[shape(14, 14)][: place.sum()]
        return picture, place

    for number in range(8):
        picture, second = two(number)
        result = made.step(picture if number >= 3 else frame(number, (1,)))
        assert result.ids == ([1] if number < 3 else [1, 2])
        assert result.names == ["red"] * len(result)
        assert iou(result.masks[0], labels(number, (1,)) == 1) > 0.6
        if number >= 3:
            assert iou(result.masks[1], second) > 0.6
    assert made.objects == {1: "red", 2: "red"}
    assert made.step(frame(0, ())).ids == []


def test_classes_need_references():
    made = VideoPredictor(colour_predictor())
    with pytest.raises(RuntimeError, match="no references"):
        made.follow_references()


# ---- the decoder ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_runs_with_a_decoder(kind):
    """Whose weights are random: only the mechanics count."""
    torch.manual_seed(0)
    predictor = InContextPredictor(tiny_config(canvas=168), device="cpu")
    made = video(predictor, kind, memory={"gate": 0, "trust": 0, "every": 1}, absent=0)
    made.add(frame(0), labels(0))
    results = [made.step(frame(n)) for n in range(4)]
    assert all(r.ids == [1, 3] for r in results)
    grown = kind in ("fifo", "mean", "last")
    assert any(made.memory[i].recent for i in (1, 3)) == grown
