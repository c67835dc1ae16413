"""The tool that fits what scores mean."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import calibrate
from scored_pairs import Folders, alike
from segic_d2.config.load import load_config
from tests.tiny import tiny_config

R = "MODEL.SEGIC.REGIONS."
COLOURS = {"square": (250, 40, 20), "disc": (30, 60, 240), "stripe": (20, 220, 60)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Three pictures of each of three kinds."""
    root, rng = tmp_path_factory.mktemp("calibrate") / "set", np.random.default_rng(0)
    for kind, colour in COLOURS.items():
        (root / kind).mkdir(parents=True)
        for n in (1, 2, 3):
            image = rng.integers(0, 90, (60, 80, 3), dtype=np.uint8)
            rows, columns = np.ogrid[:60, :80]
            mask = np.hypot(rows - 8 * n - 12, columns - 20 * n) < 12
            if kind != "disc":
                mask = (abs(rows - 8 * n - 12) < 9) & (abs(columns - 20 * n) < 14)
            image[mask] = colour
            Image.fromarray(image).save(root / kind / f"{n}.bmp")
            Image.fromarray(mask).save(root / kind / f"{n}.png")
    return root


def example(x, good, mode="present", home="a"):
    return {"evidence": {"x": x}, "good": good, "mode": mode, "home": home, "file": f"{home}/x"}


def test_the_fit_is_a_logistic_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, 4000)
    good = rng.random(4000) < 1 / (1 + np.exp(-(1.5 * x - 0.5)))
    modes = rng.permutation(["present", "absent"] * 2000)
    examples = [example(*one) for one in zip(x, good, modes, strict=True)]
    # contexts do not count for what one entity alone can tell
    examples += [example(5.0, False, "mixed")] * 500
    (offset, weight), found = calibrate.fit(examples, ("x",))
    assert weight == pytest.approx(1.5, abs=0.12) and offset == pytest.approx(-0.5, abs=0.12)
    np.testing.assert_allclose(found[:4000], 1 / (1 + np.exp(-offset - weight * x)), rtol=1e-6)


def test_no_example_is_told_by_a_fit_that_saw_its_kind():
    """Of six kinds, one has its labels turned round: only fits without it are right about it."""
    examples = []
    for home in "abcdef":
        for n in range(40):
            examples.append(example(n - 20.0, (n > 20) != (home == "f"), "present", home))
            examples.append(example(-30.0, False, "absent", home))
    found = calibrate.across(examples, ("x",))
    own = np.array([e["home"] == "f" for e in examples])
    own &= np.array([e["evidence"]["x"] > 10 for e in examples])
    assert found[own].min() > 0.8  # a fit of all six would be less sure


def test_the_calibration_error_by_hand():
    scores, good = [0.05, 0.15, 0.12, 0.95, 1.0], [0, 1, 0, 1, 1]
    error, rows = calibrate.calibration_error(scores, good)
    assert rows == [(1, 0.05, 0), (2, pytest.approx(0.135), 0.5), (2, pytest.approx(0.975), 1)]
    assert error == pytest.approx((0.05 + 2 * 0.365 + 2 * 0.025) / 5)


def test_kinds_that_stand_together_are_not_absent():
    assert alike("bird", "bird") and alike("trunk", "bird") and not alike("bird", "pot")


def test_contexts_hold_what_is_there_and_never_the_target(place):
    folders = Folders([place])
    first, again = (list(folders.mixed(3)) for _ in range(2))
    assert len(first) == 9
    for (file, asked, truths, own), (_, other, *_) in zip(first, again, strict=True):
        assert [one[1:] for one in asked] == [one[1:] for one in other]  # seeded
        assert {kind for _, kind, _ in asked} == set(COLOURS) and own[next(iter(truths))] == file
        assert file not in {shown for *_, shown in asked} and len(truths) == 1
    modes = [truth is None for *_, truth in folders.alone()]
    assert modes.count(False) == modes.count(True) == 18


def test_what_is_printed_is_a_config(place, tmp_path, capsys):
    torch.manual_seed(0)  # of the model
    config, output = tmp_path / "tiny.yaml", tmp_path / "found.json"
    opts = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", f"{R}CUT", 0.9, f"{R}CELLS", 24
    config.write_text(tiny_config(*opts, f"{R}DECODER", 0.2).dump())
    arguments = [str(place), "--config-file", str(config), "--seeds", "1"]
    calibrate.main([*arguments, "--report", str(place), "--table", "--output", str(output)])
    text, found = capsys.readouterr().out, json.loads(output.read_text())
    (numbers,) = re.findall(r"CALIBRATION: (\[.*\])", text)
    (least,) = re.findall(r"TEST.ABSENT: (.*)", text)
    cfg = load_config(str(config), [f"{R}CALIBRATION", numbers, "MODEL.SEGIC.TEST.ABSENT", least])
    assert list(cfg.MODEL.SEGIC.REGIONS.CALIBRATION) == pytest.approx(found["CALIBRATION"])
    for title in calibrate.CANDIDATES:
        assert f"| {title} | " in text
    own, told = found["fitted on"], found[str(place)]
    assert set(own) == set(told) and own["absent"] <= 0.1
    # the numbers that are printed do what was fitted, and a model that has them says so
    for name in ("mIoU", "absent", "ECE pairs"):
        assert told[name] == pytest.approx(own[name], abs=0.02 if name != "mIoU" else 2)
    with pytest.raises(SystemExit, match="error: no such folder"):
        calibrate.main([str(tmp_path / "none"), *arguments[1:]])
    with pytest.raises(SystemExit, match="only a RegionMatchingHead with a decoder"):
        calibrate.main([str(place), "--config-file", "segic_region.yaml"])
