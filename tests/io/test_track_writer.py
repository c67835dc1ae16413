import json
import tracemalloc

import numpy as np
import pytest

from segic_d2.io.rle import decode
from segic_d2.io.track_writer import TrackWriter
from tests.io.clips import found, square

EMPTY = np.zeros((48, 64), bool)


def masks(track):
    return [s and decode(s, 48, 64) for s in track["segmentations"]]


def test_tracks_of_frames(tmp_path):
    path = tmp_path / "results.json"
    first, second = square(0)[1], square(5)[1]
    with TrackWriter(path, "a.mp4") as writer:
        writer.write(0, None)
        writer.write(1, found([first], [3], [0.25], names=["cat"]))
        writer.write(2, found([EMPTY, second], [3, 1], [0.0625, 0.75], classes=[8, 9]))
        writer.write(4, found([second], [3], [0.75]))  # the fourth could not be read
        assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
    one, three = json.loads(path.read_text())
    about = ("video_id", "id", "name", "category_id", "score", "scores")
    assert [one[key] for key in about] == [
        "a.mp4",
        1,
        None,
        9,
        0.75,
        [None, None, 0.75, None, None],
    ]
    scores = [None, 0.25, 0.0625, None, 0.75]
    assert [three[key] for key in about] == ["a.mp4", 3, "cat", 3, 0.5, scores]
    expected = [None, first, None, None, second]
    for mask, own in zip(masks(three), expected, strict=True):
        assert mask is own if own is None else (mask == own).all()
    assert [m is None for m in masks(one)] == [True, True, False, True, True]
    assert (masks(one)[2] == second).all()


def test_earlier_results_of_the_same_video_are_written_over(tmp_path):
    for ids in ([1], [1, 2], []):
        with TrackWriter(tmp_path / "results.json", 'a "b".mp4') as writer:
            writer.write(0, found([square(0)[1]] * len(ids), ids))
        read = json.loads((tmp_path / "results.json").read_text())
        assert [track["id"] for track in read] == ids


@pytest.mark.parametrize("name", ["results.json", "results.jsonl"])
def test_what_is_not_ours_stays(tmp_path, name):
    text = '[\n{"video_id": "b.mp4", "id": 1}\n]'
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}: it is there already and holds no results of a"):
        TrackWriter(tmp_path / "results.json", "a.mp4")
    assert (tmp_path / name).read_text() == text


def test_lines_of_a_killed_run_are_whole(tmp_path):
    writer = TrackWriter(tmp_path / "results.json", "a.mp4")
    writer.write(0, found([square(0)[1]], [2]))
    line = json.loads((tmp_path / "results.jsonl").read_text())
    assert (line["frame"], [*line["objects"]]) == (0, ["2"])
    TrackWriter(tmp_path / "results.json", "a.mp4").write(0, None)  # which may be written over


def test_memory_does_not_grow_with_frames(tmp_path):
    result = found([square(0)[1]], [1])

    def peak(frames):
        tracemalloc.start()
        with TrackWriter(tmp_path / f"{frames}.json", "a") as writer:
            for number in range(frames):
                writer.write(number, result)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(4000) < 1.1 * peak(2000)  # buffers are full by then
