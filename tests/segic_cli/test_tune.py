"""``segic train --from``; tests/engine/test_tune.py has what tuning does."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from segic_cli import tune
from segic_cli.main import build_parser, main
from segic_d2.checkpoint.pretrained import PRETRAINED
from segic_d2.predictor import InContextPredictor
from tests.engine.test_tune import FUSED, PICTURES
from tests.segic_cli.test_main import light
from tests.tiny import TinyBackbone, tiny_config


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with six pictures of a class, a config and weights."""
    monkeypatch.chdir(tmp_path)
    for n, one in enumerate(PICTURES[:6]):
        file = Path(f"reds/red/{n}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one.image).save(file)
        Image.fromarray(one.masks[1]).save(f"reds/red/{n}_mask.png")
    # the same random backbone for every model that is built of it
    monkeypatch.setattr("tests.tiny.TinyBackbone", SameBackbone)
    cfg = tiny_config(*FUSED, "MODEL.BACKBONE.WEIGHTS", "random", "OUTPUT_DIR", "out")
    Path("tiny.yaml").write_text(cfg.dump())
    InContextPredictor(cfg, device="cpu").save_weights("w.pth")


class SameBackbone(TinyBackbone):
    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__()


def test_the_names_are_those_that_ship():
    assert {name: x.config for name, x in PRETRAINED.items()} == tune.SHIPPED


def config(*argv):
    args = build_parser().parse_known_args(["train", *argv])[0]
    return tune.config_of(args)


def test_the_config_is_that_of_the_weights(tmp_path):
    assert config("--from", "segic-demo") == "segic_demo.yaml"
    file = str(tmp_path / "model_final.pth")
    assert config("--from", file) == "segic_demo.yaml"
    (tmp_path / "config.yaml").touch()
    assert config("--from", file) == str(tmp_path / "config.yaml")
    assert config("--from", file, "--config-file", "x.yaml") == "x.yaml"


def test_before_and_after_are_printed_and_the_next_command_runs(work, capsys, caplog):
    start = ["train", "--from", "w.pth", "--config-file", "tiny.yaml", "reds"]
    assert main([*start, "SOLVER.MAX_ITER", "3", "SOLVER.IMS_PER_BATCH", "2"]) == 0
    first, second, _, command = capsys.readouterr().out.splitlines()
    assert first.startswith("mIoU on 2 held-out pictures: before ")
    assert second.startswith("(3 steps on 4 pictures, ")
    words = {"IMAGE": "reds/red/0.png", "MASK": "reds/red/0_mask.png", "PICTURES": "reds/red/1.png"}
    program, *argv = [words.get(word, word) for word in command.split()]
    assert program == "segic" and main(argv) == 0
    assert any(Path("found").glob("1*.png"))
    capsys.readouterr()
    cfg, loaded = Path("out/config.yaml"), torch.load("out/model_final.pth")["model"]
    predictor = InContextPredictor(str(cfg), device="cpu")
    state = predictor.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in loaded.items())
    again = ["train", "--from", "out/model_final.pth", "reds", "SOLVER.MAX_ITER", "1"]
    assert main([*again, "--test", "reds", "OUTPUT_DIR", "out2"]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert "6 of 6 pictures to test on are also learned from" in caplog.text
    assert first.startswith("mIoU on 6 held-out pictures") and "on 6 pictures" in second
    assert sorted(p.name for p in Path("out2").iterdir()) == ["config.yaml", "model_final.pth"]


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["--from", "x.pth", "."], 1, "--from: no such file: x.pth"),
        (["--from", "segic-dem", "."], 2, "--from segic-dem: neither a decoder that ships (segic-"),
        (["--from", "segic-demo"], 2, "--from needs DATA"),
        (["--from", "segic-demo", ".", "--resume"], 2, "--from tunes in one go and one process"),
        (["--from", "segic-demo", ".", "--num-gpus", "2"], 2, "--from tunes in one go and one"),
        (["--from", "segic-demo", "a/b"], 1, "no such folder: a/b"),
        (["--from", "segic-demo", ".", "SOLVER.MAX_ITER", "0"], 2, "SOLVER.MAX_ITER is 0; it must"),
        (["--from", "segic-demo", ".", "SOLVER.BASE_LR", "x"], 2, "SOLVER.BASE_LR is 'x', no num"),
        (["--from", "segic-demo", ".", "OUTPUT_DIR", "file"], 1, "OUTPUT_DIR file: "),
    ],
)
def test_what_is_wrong_shows_before_anything_is_imported(tmp_path, argv, status, message):
    (tmp_path / "file").touch()
    found, (line,), _ = light("train", *argv, cwd=tmp_path)
    assert found == status and line.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["reds", "--test", "no_reds"],
            "dataset 'folder:no_reds': no_reds has neither class folders",
        ),
        (["two_reds"], "class 'red' has 2 pictures with a mask; tuning takes 3 at least"),
        (["reds", "--config-file", "no.yaml"], "no config 'no.yaml'"),
    ],
)
def test_what_shows_later_is_one_line_too(work, capsys, argv, message):
    Path("no_reds").mkdir()
    for n in range(2):
        Path("two_reds/red").mkdir(parents=True, exist_ok=True)
        for name in (f"{n}.png", f"{n}_mask.png"):
            Path("two_reds/red", name).write_bytes(Path("reds/red", name).read_bytes())
    assert main(["train", "--from", "w.pth", "--config-file", "tiny.yaml", *argv]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert line.startswith(f"error: {message}")
