"""Figures of videos, against the official scorers' (PREFIX.json, PREFIX.safetensors, where they
stand beside the checkout or where ``SEGIC_GOLDEN_VOS`` says) and against plain loops."""

import json
import math
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from segic_d2.evaluation import score_frames, score_video, summarize
from segic_d2.evaluation.boundary import boundary_f, region_similarity, tolerance
from segic_d2.evaluation.object_scores import statistics
from tests.evaluation.test_boundary import slow_f

SET = os.environ.get("SEGIC_GOLDEN_VOS")
PREFIX = SET or str(Path(__file__).resolve().parents[3] / "shared/golden/vos_seed0")
HERE = all(Path(f"{PREFIX}{end}").is_file() for end in (".json", ".safetensors"))
ABOUT = json.loads(Path(f"{PREFIX}.json").read_text()) if HERE else {}
SEQUENCES = ABOUT.get("sequences", {})
CASES = next((v for k, v in ABOUT.items() if k.startswith("cases_")), {})
close = lambda value: pytest.approx(value, abs=1e-9)  # noqa: E731


@cache
def tensors():
    return load_file(f"{PREFIX}.safetensors")


def maps(name):
    return tensors()[f"{name}/gt"], tensors()[f"{name}/pred"]


def test_the_reference_files_are_whole():
    if not HERE and not SET:
        pytest.skip("the reference files are not here")
    assert HERE, f"SEGIC_GOLDEN_VOS is {PREFIX!r}, but there is no such .json and .safetensors"
    stored = {n.rpartition("/")[0] for n in tensors()}
    assert stored == {*SEQUENCES, *(f"case/{n}" for n in CASES)} and CASES and SEQUENCES


@pytest.mark.parametrize("name", SEQUENCES)
def test_golden_davis17(name):
    about, scores = SEQUENCES[name], score_video(*maps(name))
    assert tolerance(about["height"], about["width"]) == about["tolerance_px"]
    for letter in "JF":
        found = np.stack([getattr(s, letter.lower()) for s in scores.values()])
        np.testing.assert_allclose(found, tensors()[f"{name}/{letter}"], rtol=0, atol=1e-9)
    assert [str(k) for k in scores] == list(about["per_object"])
    for k, expected in about["per_object"].items():
        found = scores[int(k)].summary()
        for letter in "JF":
            assert found[f"{letter}-Mean"] / 100 == close(expected[f"{letter}_mean"])
            assert found[f"{letter}-Recall"] / 100 == close(expected[f"{letter}_recall"])
            assert found[f"{letter}-Decay"] / 100 == close(expected[f"{letter}_decay_unwrapped"])


@pytest.mark.parametrize("name", SEQUENCES)
def test_golden_objects_and_foreground(name):
    expected, scores = SEQUENCES[name]["vos_benchmark_percent"], score_video(*maps(name), "objects")
    assert {str(k) for k in scores} == set(expected)
    for k, score in scores.items():
        found = score.summary()
        assert found["J-Mean"] == close(expected[str(k)]["J"])
        assert found["F-Mean"] == close(expected[str(k)]["F"])
    expected = SEQUENCES[name]["merged_foreground"]
    found = score_video(*maps(name), "davis16")[1].summary()
    assert found["J-Mean"] / 100 == close(expected["J_mean"])
    assert found["F-Mean"] / 100 == close(expected["F_mean"])


@pytest.mark.parametrize("row", [k for k in ABOUT if k.startswith("global")])
def test_golden_rows(row):
    names = [n for n in SEQUENCES if n != row.partition("without_")[2]]
    assert (len(names) == len(SEQUENCES)) == (row == "global")
    found = summarize({n: score_video(*maps(n)) for n in names})
    for key, expected in ABOUT[row].items():
        if expected is None:  # the official tool's edges are 8 bits wide
            assert math.isfinite(found[key])
        else:
            assert found[key] / 100 == close(expected)


@pytest.mark.parametrize("name", CASES)
def test_golden_single_masks(name):
    truth, predicted = (m > 0 for m in maps(f"case/{name}"))
    assert region_similarity(truth, predicted) == close(CASES[name]["J"])
    assert boundary_f(truth, predicted) == close(CASES[name]["F"])


def video(seed, ids=(1, 2), frames=7, size=(30, 40)):
    """True and predicted label maps of squares that wander."""
    rng = np.random.default_rng(seed)
    truth, predicted = np.zeros((2, frames, *size), dtype=np.uint8)
    for k in ids:
        y, x, side = rng.integers(2, 15), rng.integers(2, 20), rng.integers(5, 12)
        for t in range(frames):
            truth[t, y + t : y + t + side, x : x + side] = k
            dy, dx = rng.integers(-3, 4, 2)
            predicted[t, max(0, y + t + dy) : y + t + side, max(0, x + dx) : x + side] = k
    return truth, predicted


def slow_scores(truth, predicted, k, frames):
    """(J, F) of an object at each frame."""
    rows = []
    for t in frames:
        a, b = truth[t] == k, predicted[t] == k
        union = sum(bool(x or y) for x, y in zip(a.flat, b.flat, strict=True))
        both = sum(bool(x and y) for x, y in zip(a.flat, b.flat, strict=True))
        rows.append((both / union if union else 1.0, slow_f(a, b)))
    return np.array(rows)


@pytest.mark.parametrize("seed", range(3))
def test_davis17_against_a_plain_loop(seed):
    truth, predicted = video(seed, ids=(1, 3))  # 2 is nowhere, and exists
    predicted[2][predicted[2] == 3] = 2
    truth[4, :3] = 255
    scores = score_video(truth, predicted)
    assert list(scores) == [1, 2, 3]
    for k, score in scores.items():
        slow = slow_scores(truth, predicted, k, range(1, 6))
        np.testing.assert_allclose(np.stack([score.j, score.f], 1), slow, rtol=0, atol=1e-12)
        assert score.frames == (1, 2, 3, 4, 5)
    assert scores[2].j.tolist() == [1, 0, 1, 1, 1]
    assert scores[1].j.std() > 0 and scores[1].f.std() > 0


def test_objects_count_from_where_they_are_first_seen():
    truth, predicted = video(0, ids=(1,), frames=8)
    truth[3:, 25:, 30:] = 7  # late; its id has a gap
    predicted[4:, 25:, 30:] = 7
    predicted[2:, 25:, :5] = 9  # not in the truth
    truth[0, :2], truth[-1, :2] = 5, 6  # only in frames that are not scored
    truth[6, 0, 0] = 255
    scores = score_video(truth, predicted, "objects")
    assert {k: s.frames for k, s in scores.items()} == {
        1: (1, 2, 3, 4, 5, 6),
        7: (3, 4, 5, 6),
        255: (6,),
    }
    assert scores[7].j.tolist() == [0, 1, 1, 1]
    predicted[2, 25:, 30:] = 7  # seen in the prediction before
    assert score_video(truth, predicted, "objects")[7].frames == (2, 3, 4, 5, 6)


def test_many_ids_are_wider_than_a_byte():
    truth, predicted = (m.astype(np.int64) * 70000 for m in video(1))
    scores = score_video(truth, predicted, "objects")
    narrow = score_video(*video(1), "objects")
    assert list(scores) == [70000, 140000]
    for a, b in zip(scores.values(), narrow.values(), strict=True):
        assert a.j.tolist() == b.j.tolist() and a.f.tolist() == b.f.tolist()


def test_davis16_merges_and_reads_its_own_files():
    truth, predicted = video(2)
    whole = score_video(truth, predicted, "davis16")
    own = score_video(255 * np.uint8(truth > 0), 255 * np.uint8(predicted > 0), "davis16")
    slow = slow_scores(truth > 0, predicted > 0, True, range(1, 6))
    for scores in (whole, own):
        np.testing.assert_allclose(np.stack([scores[1].j, scores[1].f], 1), slow, atol=1e-12)
    void = truth.copy()
    void[3, :2] = 255
    assert score_video(void, predicted, "davis16")[1].j.tolist() == whole[1].j.tolist()


def test_frames_of_each_object():
    truth, predicted = video(3)
    scores = score_frames(truth, predicted, {1: [2, 4], 2: range(3, 7), 3: []})
    assert {k: s.frames for k, s in scores.items()} == {1: (2, 4), 2: (3, 4, 5, 6)}
    for k, score in scores.items():
        slow = slow_scores(truth, predicted, k, score.frames)
        np.testing.assert_allclose(np.stack([score.j, score.f], 1), slow, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 38, 298, 1000])
def test_recall_and_decay(count):
    values = np.random.default_rng(count).choice([0.2, 0.5, 0.75, 1.0], count)
    edges = [math.floor(1 + (count - 1) * k / 4 + 0.5) - 1 for k in range(5)]
    first, last = values[: edges[1] + 1], values[edges[3] : edges[4] + 1]
    mean, recall, decay = statistics(values)
    assert mean == pytest.approx(sum(values) / count)
    assert recall == sum(v > 0.5 for v in values) / count
    assert decay == pytest.approx(sum(first) / len(first) - sum(last) / len(last))


def test_the_summary_is_a_mean_over_objects_in_any_order():
    one, three = score_video(*video(4, (1,))), score_video(*video(5, (1, 2, 3)))
    found = summarize({"b": one, "a": three})
    assert found == summarize({"a": three, "b": one})
    assert (found["objects"], found["videos"]) == (4, 2)
    for key in ("J-Mean", "F-Recall", "J-Decay"):
        rows = [s.summary()[key] for s in (*one.values(), *three.values())]
        assert found[key] == pytest.approx(sum(rows) / 4)
    assert found["J&F-Mean"] == pytest.approx((found["J-Mean"] + found["F-Mean"]) / 2)
    assert found["J-Mean"] != pytest.approx(summarize({"a": three})["J-Mean"])
    with pytest.raises(ValueError, match="no object was scored in 1 videos"):
        summarize({"a": {}})


@pytest.mark.parametrize("rules", ["davis17", "davis16", "objects"])
def test_the_truth_itself_is_exactly_100(rules):
    truth, _ = video(6, (1, 2, 3), frames=12)
    found = summarize(
        {"a": score_video(truth, truth, rules), "b": score_video(truth, truth, rules)}
    )
    assert found["J&F-Mean"] == found["J-Recall"] == found["F-Mean"] == 100
    assert found["J-Decay"] == found["F-Decay"] == 0


def test_maps_may_be_read_one_by_one():
    truth, predicted = video(7)

    class Reader:
        """A sequence of maps that keeps no map."""

        asked = []

        def __len__(self):
            return len(predicted)

        def __getitem__(self, t):
            self.asked.append(t)
            return predicted[t]

    scores = score_video(list(truth), Reader())
    assert Reader.asked == [1, 2, 3, 4, 5]
    assert scores[1].j.tolist() == score_video(truth, predicted)[1].j.tolist()


def test_misuse_is_one_line():
    truth, predicted = video(8)

    def refused(match, a=truth, b=predicted, rules="davis17"):
        with pytest.raises(ValueError, match=match) as error:
            score_video(a, b, rules, name="cat")
        assert "\n" not in str(error.value)

    refused("rules are 'davis18': choose one of davis17, davis16, objects", rules="davis18")
    refused("cat has 2 frames: .* needs 3", truth[:2], predicted[:2])
    refused("cat: 6 frames are predicted, 7 are annotated", b=predicted[1:])
    refused("frame 1: the prediction is 15x40, the truth 30x40", b=predicted[:, ::2])
    refused(r"frame 1: the prediction is float32 of the shape \(30, 40\)", b=np.float32(predicted))
    refused(r"frame 1: the truth is uint8 of the shape \(30, 40, 3\)", np.stack([truth] * 3, -1))
    refused("cat, frame 1: the prediction has the id -1", b=predicted.astype(int) - 1)
    refused("cat: the first annotation shows no object", truth * 0)
    for stray in (3, 255):
        wrong = predicted.copy()
        wrong[4, 0, 0] = stray
        refused(f"cat, frame 4: the id {stray} is predicted; the objects are 1, 2", b=wrong)
        with pytest.raises(ValueError, match=f"frame 4: the id {stray} is predicted"):
            score_frames(truth, wrong, {1: [1], 2: [4]})
        assert list(score_video(truth, wrong, "objects")) == [1, 2]
    with pytest.raises(ValueError, match="cat has the frames 0 to 6, not 1 to 7"):
        score_frames(truth, predicted, {1: [1, 7], 2: [2]}, name="cat")
