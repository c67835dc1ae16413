"""The figures of a clip with a few annotated frames."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate_clip
from segic_d2.io.video_masks import write_video_mask
from tests.predictor.clips import colour_predictor, frame, labels


@pytest.fixture
def clip(tmp_path):
    """Ten pictures and the masks of three of them."""
    (tmp_path / "clip").mkdir()
    for number in range(10):
        Image.fromarray(frame(number)).save(tmp_path / "clip" / f"{number:05d}.png")
    (tmp_path / "masks").mkdir()
    for number in (0, 4, 8):
        write_video_mask(tmp_path / "masks" / f"{number:05d}.png", labels(number))
    (tmp_path / "masks" / "clip.json").write_text(
        json.dumps({"objects": {"1": "red", "3": "blue"}})
    )
    return tmp_path


def run(clip, monkeypatch, *more):
    made = colour_predictor()
    monkeypatch.setattr(evaluate_clip, "InContextPredictor", lambda cfg, weights: made)
    given = ["--video", str(clip / "clip"), "--masks", str(clip / "masks")]
    return evaluate_clip.main([*given, "--output", str(clip / "out.json"), *more])


def test_figures_of_objects_beside_the_floor(clip, monkeypatch, capsys):
    assert run(clip, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert "1 red" in shown and "3 blue" in shown
    found = json.loads((clip / "out.json").read_text())
    assert found["frames"] == [0, 4, 8] and set(found["objects"]) == {"1", "3"}
    for i in ("1", "3"):
        one, floor = found["objects"][i], found["floor"][i]
        assert one["J"] > 70 > 60 > floor["J"] and one["self_iou"] > 0.7
        assert one["J&F"] == pytest.approx((one["J"] + one["F"]) / 2)
    assert found["mean"]["J"] == pytest.approx(
        np.mean([found["objects"][i]["J"] for i in ("1", "3")])
    )
    exact = {n: labels(n) for n in (0, 4, 8)}
    assert evaluate_clip.mean(evaluate_clip.evaluate(exact, exact)) == {
        "J": 100,
        "F": 100,
        "J&F": 100,
    }
    moved = {n: np.where(labels(0) == 1, 1, 0) if n else labels(0) for n in exact}
    part = evaluate_clip.evaluate(exact, moved)
    share = [np.mean([(labels(0) == 1) & (labels(n) == 1)]) for n in (4, 8)]
    either = [np.mean([(labels(0) == 1) | (labels(n) == 1)]) for n in (4, 8)]
    assert part[1]["J"] == pytest.approx(100 * np.mean(np.divide(share, either)))
    assert part[3] == {"J": 0, "F": 0, "J&F": 0}


def test_what_is_wrong_is_one_line(clip, monkeypatch, capsys):
    write_video_mask(clip / "masks" / "00012.png", labels(9))
    assert run(clip, monkeypatch) == 1
    assert "ends before frame 12" in capsys.readouterr().err
    for file in (clip / "masks").glob("*.png"):
        file.unlink()
    assert run(clip, monkeypatch) == 1
    assert "holds 0 label maps" in capsys.readouterr().err


def test_variants_share_frames_and_differ_in_a_table(clip, monkeypatch, capsys):
    window = "TEST.VIDEO.WINDOW 0.0 TEST.VIDEO.ABSENT 0.0"
    assert run(clip, monkeypatch, "--variants", "", window, "TEST.VIDEO.MEMORY fifo") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| variant | 1 red: J / F | 3 blue: J / F | J&F | self-IoU |")
    assert [x.split(" | ")[0] for x in lines[2:]] == [
        "| first mask copied",
        "| as it is",
        f"| {window}",
        "| TEST.VIDEO.MEMORY fifo",
    ]
    many = json.loads((clip / "out.json").read_text())
    assert run(clip, monkeypatch) == 0
    one = json.loads((clip / "out.json").read_text())
    assert many["variants"][0]["objects"] == one["objects"] and many["floor"] == one["floor"]
    assert run(clip, monkeypatch, "--variants", "INPUT.CANVAS 224") == 1
    assert "INPUT.CANVAS is no key of TEST.VIDEO" in capsys.readouterr().err
