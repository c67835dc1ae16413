"""The tool that trains the learned choice: from pictures to a file that a config takes."""

import json

import numpy as np
import pytest
from PIL import Image

import train_choice
from segic_d2.config.load import load_config
from segic_d2.modeling.segic.regions.learned import LearnedChoice
from tests.tiny import tiny_config

R = "MODEL.SEGIC.REGIONS."


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    own = tmp_path / "set" / "square"
    own.mkdir(parents=True)
    for n in (1, 2, 3):
        image, mask = rng.integers(0, 90, (60, 80, 3), dtype=np.uint8), np.zeros((60, 80), np.uint8)
        y, x = 5 * n, 9 * n
        image[y : y + 30, x : x + 30], mask[y : y + 30, x : x + 30] = (250, 40, 20), 255
        Image.fromarray(image).save(own / f"{n}.jpg")
        Image.fromarray(mask).save(own / f"{n}.png")
    return tmp_path / "set"


def test_from_photographs_to_a_network(folder, tmp_path, capsys):
    config, log, file = (tmp_path / name for name in ("tiny.yaml", "log.json", "c.safetensors"))
    opts = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", f"{R}CUT", 0.9, f"{R}CELLS", 24
    config.write_text(tiny_config(*opts, f"{R}DECODER", 0.2).dump())
    arguments = [str(tmp_path / "cache"), "--config-file", str(config), "--canvas", "112"]
    arguments += ["--photographs", str(folder / "square"), "--folders", str(folder)]
    arguments += ["--steps", "4", "--period", "2", "--batch", "2", "--seeds", "0", "1"]
    train_choice.main([*arguments, "--output", str(file), "--log", str(log), "--exact"])
    found, text = json.loads(log.read_text()), capsys.readouterr().out
    assert found["episodes"] > 0 and list(found["seeds"]) == ["0", "1"]
    for seed, own in found["seeds"].items():
        assert [x["step"] for x in own["curve"]] == [2, 4]
        best = max(own["curve"], key=lambda x: x["mean"])
        assert own["best"] == best and f"| seed {seed} | {best['step']} |" in text
        assert own["exact"]["set"]["IoU"] == pytest.approx(best["set"], abs=1e-6)
    assert not LearnedChoice.from_file(file).training
    load_config(str(config), [f"{R}LEARNED", str(file)])
    train_choice.main([*arguments, "--episodes", "2"])  # nothing is collected again
    assert "cache" not in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: no episodes: --scenes and --photographs give"):
        train_choice.main([*arguments[:3], "--folders", str(folder)])
    with pytest.raises(SystemExit, match="error: no --folders to choose a step on"):
        train_choice.main(arguments[:7])
