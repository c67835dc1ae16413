import math

import numpy as np
import pytest

from segic_d2.evaluation import score_frames
from segic_d2.evaluation.object_scores import ObjectScore
from segic_d2.evaluation.seen_unseen import (
    lvos_frames,
    lvos_summary,
    ytvos_frames,
    ytvos_summary,
)
from tests.evaluation.test_video import video

NAMES = ["00000", "00005", "00010", "00015", "00020"]


def score(seed, count=4):
    j, f = np.random.default_rng(seed).random((2, count))
    return ObjectScore(tuple(range(count)), j, f)


VIDEOS = {"a": {1: score(1), 2: score(2, 7)}, "b": {4: score(3)}, "c": {1: score(4)}}


def test_ytvos_scores_an_object_after_its_first_frame():
    listed = {1: NAMES, 3: ["00010", "00020"], 4: ["00020"]}
    assert ytvos_frames(listed, NAMES) == {1: [1, 2, 3, 4], 3: [4], 4: []}
    truth, predicted = video(0, (1, 3), frames=5)
    scores = score_frames(truth, predicted, ytvos_frames(listed, NAMES))
    assert {k: s.frames for k, s in scores.items()} == {1: (1, 2, 3, 4), 3: (4,)}
    with pytest.raises(ValueError, match="object 1 has the frame 00025, which the video lacks"):
        ytvos_frames({1: ["00000", "00025"]}, NAMES)


def test_lvos_leaves_out_the_first_and_last_of_an_objects_own_frames():
    names = [f"{5 * i + 1:08}" for i in range(6)]  # 1, 6, … 26
    frames = lvos_frames({1: (1, 27), 2: (6, 21), 3: (6, 22), 4: (1, 10)}, names)
    assert frames == {1: [1, 2, 3, 4], 2: [2], 3: [2, 3], 4: []}
    with pytest.raises(ValueError, match="object 1 has the frame 31, which the video lacks"):
        lvos_frames({1: (1, 32)}, names)


def test_g_is_the_mean_of_four_means():
    categories = {"a": {1: "cat", 2: "owl"}, "b": {4: "cat"}, "c": {1: "cat"}}
    found = ytvos_summary(VIDEOS, categories, {"cat", "dog"})
    seen, unseen = [VIDEOS["a"][1], VIDEOS["b"][4], VIDEOS["c"][1]], VIDEOS["a"][2]
    four = [
        sum(sum(s.j) / len(s.j) for s in seen) / 3,
        sum(unseen.j) / 7,
        sum(sum(s.f) / len(s.f) for s in seen) / 3,
        sum(unseen.f) / 7,
    ]
    keys = ("J seen", "J unseen", "F seen", "F unseen")
    assert [found[key] / 100 for key in keys] == pytest.approx(four)
    assert found["G (local rule)"] == pytest.approx(25 * sum(four))
    assert (found["objects seen"], found["objects unseen"]) == (3, 1)
    alone = ytvos_summary(VIDEOS, categories, {"cat", "owl"})
    assert math.isnan(alone["J unseen"]) and math.isnan(alone["G (local rule)"])
    with pytest.raises(ValueError, match="b: the object 4 has no category"):
        ytvos_summary(VIDEOS, {**categories, "b": {}}, {"cat"})


def test_lvos_parts_videos_and_measures_the_deviation():
    found = lvos_summary(VIDEOS, {"b", "c"})
    seen, unseen = VIDEOS["a"].values(), [VIDEOS["b"][4], VIDEOS["c"][1]]
    means = [sum(s.f.mean() for s in group) / 2 for group in (seen, unseen)]
    assert [found["F seen"], found["F unseen"]] == pytest.approx([100 * m for m in means])
    four = [found[key] for key in ("J seen", "J unseen", "F seen", "F unseen")]
    assert found["J&F"] == pytest.approx(sum(four) / 4)
    roots = []
    for s in (*seen, *unseen):
        both = [(j + f) / 2 for j, f in zip(s.j, s.f, strict=True)]
        mean = sum(both) / len(both)
        roots.append(math.sqrt(sum((x - mean) ** 2 for x in both) / len(both)))
    assert found["V"] == pytest.approx(100 * sum(roots) / 4)
