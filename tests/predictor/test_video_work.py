"""What a video costs and holds: work, memory, frames, files of its frames."""

import os
import weakref
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from segic_d2.io.video import open_video
from tests.predictor.clips import (
    colour_predictor,
    followed,
    frame,
    iou,
    labels,
    video,
)


@pytest.mark.slow
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
