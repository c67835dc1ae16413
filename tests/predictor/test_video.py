"""Objects followed through toy videos."""

import logging
import os
import weakref
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

from segic_d2.evaluation.switches import identity_switches
from segic_d2.io.video import open_video
from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.structures.memory import KINDS, MemoryOptions
from tests.predictor.clips import SIZE, alike, colour_predictor, frame, iou, labels, shape
from tests.tiny import tiny_config


@pytest.fixture(scope="module")
def colours():
    return colour_predictor()


def video(predictor, kind="first", *, memory=None, **options):
    kept = MemoryOptions(kind, **{"every": 2, **(memory or {})})
    return VideoPredictor(predictor, replace(predictor.video, memory=kept, **options))


def followed(predictor, numbers=range(8), *, ids=(1, 3), **options):
    """A video whose objects were given in frame 0, and the results of some frames."""
    made = video(predictor, **options)
    made.add(frame(0, ids), labels(0, ids))
    return made, [made.step(frame(n, ids)) for n in numbers]


# ---- ids, late and hidden objects ----------------------------------------------------------


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


# ---- add, correct, remove ------------------------------------------------------------------


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


# ---- views of the given masks --------------------------------------------------------------


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


# ---- cuts ----------------------------------------------------------------------------------


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


# ---- work and memory -----------------------------------------------------------------------


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["first", "fifo"])
def test_work_and_memory_do_not_grow_with_the_video(kind):
    small = colour_predictor(canvas=56)
    backbone, frames = small.model.backbone, [frame(n) for n in range(10)]
    decode, decoded = small.model.segment_frame, []

    def counted(features, context, *args):
        decoded.append(context.shots.shape)
        return decode(features, context, *args)

    def run(count):
        alive, most, made = weakref.WeakValueDictionary(), 0, None

        def source():
            nonlocal most
            for n in range(count):
                alive[n] = one = frames[n % 10].copy()
                most = max(most, len(alive))
                yield one
                del one

        made = video(small, kind, memory={"size": 3, "gate": 0, "trust": 0}, absent=0)
        made.add(frame(0), labels(0))
        calls = backbone.calls
        decoded.clear()
        with patch.object(small.model, "segment_frame", counted):
            sizes = [made.memory.bytes for _ in made.track(source(), 4)]
        assert made.frame_number == len(decoded) == count
        return backbone.calls - calls, max(sizes), max(decoded), most, held(made)

    few, many = run(100), run(1000)
    assert few[1:] == many[1:] and few[3] <= (8 if kind == "first" else 3)
    # frame by frame the one that masks were given in is not encoded again
    assert few[0] - 100 == many[0] - 1000 == (0 if kind == "first" else -1)


def held(made):
    """How many tensors and arrays a video holds on to."""
    objects = [made.memory[i] for i in made.memory.ids]
    shots = sum(len(o.given.tensors) + sum(len(c.tensors) for c in o.recent) for o in objects)
    return shots, made._given is None, made._colours.size


@pytest.mark.parametrize("merge", ["argmax", "independent"])
def test_the_backbone_runs_once_per_frame_whatever_the_number_of_objects(colours, merge):
    backbone = colours.model.backbone
    for ids in ((1,), (1, 3, 4)):
        made, _ = followed(colours, range(1), ids=ids, merge=merge)
        calls = backbone.calls
        for number in range(1, 5):
            made.step(frame(number, ids))
        assert backbone.calls - calls == 4


def test_frames_are_encoded_together_and_out_as_asked_for(colours):
    made, results = followed(colours)
    seen = []

    def frames():
        for number in range(8):
            seen.append(number)
            yield frame(number)

    other = video(colours)
    other.add(frame(0), labels(0))
    tracked = other.track(frames(), 3)
    first = next(tracked)
    assert seen == [0, 1, 2]
    for one, same in zip([first, *tracked], results, strict=True):
        np.testing.assert_array_equal(one.label_map(), same.label_map())
    dependent = video(colours, "last")
    dependent.add(frame(0), labels(0))
    seen.clear()
    tracked = dependent.track(frames(), 3)
    next(tracked)
    assert seen == [0]


def test_an_object_may_go_and_come_again_with_its_id(colours):
    made, _ = followed(colours, range(2))
    made.remove(3)
    assert made.step(frame(2)).ids == [1]
    made.add(frame(3), labels(3, (3,)))
    assert made.memory[3].given.shots.sum() == 1  # nothing of the first time is left
    results = [made.step(frame(n)) for n in (3, 4)]
    for number, result in enumerate(results, 3):
        assert result.ids == [1, 3] and iou(result.masks[1], labels(number) == 3) > 0.7


def test_no_frames_are_no_results_and_odd_batches_are_named(colours):
    made, _ = followed(colours, range(1))
    assert list(made.track([])) == [] and made.frame_number == 1
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(made.track([frame(1)], 0))


def test_an_object_may_be_added_between_results(colours):
    made = video(colours)
    made.add(frame(0), labels(0, (1,)))
    tracked = made.track((frame(n) for n in range(4)), 4)
    assert next(tracked).ids == [1]
    made.add(frame(1), labels(1, (3,)))
    second = next(tracked)
    assert second.ids == [1, 3]
    np.testing.assert_array_equal(second.label_map() == 3, labels(1) == 3)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system lists no open files")
def test_an_abandoned_track_closes_the_file_of_its_frames(colours, tmp_path):
    pytest.importorskip("av")
    from tests.io.clips import write_clip

    path = write_clip(tmp_path / "toy.mp4", [frame(n) for n in range(12)])

    def is_open():
        files = (os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd"))
        return str(path.resolve()) in files

    made = video(colours)
    made.add(frame(0), labels(0))
    results = made.track((one.image for one in open_video(path)), 2)
    next(results)
    assert is_open()
    results.close()
    assert not is_open()


# ---- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["first", "fifo", "last"])
def test_a_saved_video_goes_on_identically(colours, kind, tmp_path):
    made, _ = followed(colours, range(5), kind=kind, window=0.5)
    made.save(tmp_path / "state.safetensors")
    again = video(colours, window=0.5)
    again.load(tmp_path / "state.safetensors")
    assert again.frame_number == 5 and again.options.memory.kind == kind
    for number in range(5, 8):
        one, other = made.step(frame(number)), again.step(frame(number))
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.label_map(), other.label_map())
    assert made.memory.bytes == again.memory.bytes


def test_files_of_others_are_refused(colours, tmp_path):
    made, _ = followed(colours, range(1))
    with pytest.raises(FileNotFoundError, match="missing"):
        made.load(tmp_path / "missing")
    made.memory.read().save(tmp_path / "context.safetensors")
    with pytest.raises(ValueError, match="no file of a video"):
        made.load(tmp_path / "context.safetensors")
    made.save(tmp_path / "state.safetensors")
    other = VideoPredictor(colour_predictor("INPUT.REFERENCE_ZOOM", 0.5))
    with pytest.raises(ValueError, match=r"another model: .*zoom: file 0.7, model 0.5"):
        other.load(tmp_path / "state.safetensors")
    assert made.objects == {1: None, 3: None}


# ---- classes -------------------------------------------------------------------------------


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


# ---- the decoder ---------------------------------------------------------------------------


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
