"""What a video's frame costs with several objects is counted and timed beside one."""

import numpy as np

import benchmark
import benchmark_video
from tests.predictor.clips import colour_predictor


def test_scenes_move_and_mark_the_first_discs():
    image, labels = benchmark_video.scene(0, (64, 112), 5, 2)
    moved, all_labels = benchmark_video.scene(3, (64, 112), 5)
    assert image.shape == (64, 112, 3) and image.dtype == np.uint8
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert np.unique(all_labels).tolist() == [0, 1, 2, 3, 4, 5]
    assert ((all_labels == 1)[:, 3:] == (labels == 1)[:, :-3]).all() and (moved != image).any()


def test_work_is_counted_and_grows_with_the_objects():
    one, five = benchmark_video.measure(colour_predictor(), (64, 112), [1, 5], 2, "cpu")
    assert (one["objects"], five["objects"]) == (1, 5) and one["shots"] == 1
    assert one["work_ratio"] == one["ratio"] == 1 and five["shots"] >= 5
    assert five["work"] > one["work"] > 0 and five["seconds"] > 0
    cells = benchmark_video.shown(five)
    assert len(cells) == len(benchmark_video.HEAD) and cells[0] == "112 × 64"


def test_the_benchmarks_command_prints_both_sizes(monkeypatch, capsys):
    made = colour_predictor()
    monkeypatch.setattr(benchmark_video, "InContextPredictor", lambda cfg: made)
    given = ["--objects", "1", "2", "--frames", "1", "--device", "cpu"]
    benchmark.main(["--video", *given, "--opts", "INPUT.CANVAS", "112"])
    rows = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| 112")]
    assert [x.split(" | ")[:2] for x in rows] == [
        [f"| 112 × {height}", number] for height in (112, 63) for number in "12"
    ]
