"""``segic label``: what is wrong shows before anything is imported; rounds by the command."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image

from segic_cli.checks import UsageError
from segic_cli.label import MODEL, check
from segic_cli.main import build_parser, main
from segic_cli.options import add_model
from segic_d2.predictor import InContextPredictor
from tests.engine.label.boxes import draw, files_of, tiny_config, write_pictures


def parsed(*words):
    return build_parser().parse_args(["label", *map(str, words)])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--output", "out"], "give the folder of the pictures"),
        (["{in}", "--output", "out"], "give either --reference"),
        (["{in}", "--output", "out", "--tune", "--context", "{in}"], "of --round 2 and on"),
        (["{in}", "--output", "out", "--round", "2"], "are those of round 1"),
        (["--output", "out", "--round", "2", "--format", "yolo"], "are those of round 1"),
        (["--output", "out", "--round", "2", "--tolerance", "2"], "is that of round 1"),
        (
            ["--output", "o", "--round", "2", "--corrected", "a", "--corrected", "b"],
            "give one file or folder",
        ),
        (
            ["{in}", "--output", "o", "--format", "masks", "--tolerance", "1", "--context", "c"],
            "--format masks holds exact masks",
        ),
    ],
)
def test_wrong_usage_is_one_line(words, said, tmp_path):
    words = [word.replace("{in}", str(tmp_path)) for word in words]
    with pytest.raises(UsageError, match=said):
        check(parsed(*words))


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="DIR: no such file: .*nowhere"):
        check(parsed(tmp_path / "nowhere", "--output", tmp_path, "--context", __file__))


@pytest.fixture
def light(monkeypatch):
    """The predictor of the command is tiny."""
    built = []

    def build(config, weights, device, precision, batch_size, opts):
        torch.manual_seed(0)
        built.append((config, weights, precision, batch_size, opts))
        return InContextPredictor(tiny_config(), batch_size=batch_size)

    monkeypatch.setattr("segic_d2.predictor.InContextPredictor", build)
    return built


def test_later_rounds_have_the_model_of_the_first():
    parser = argparse.ArgumentParser()
    add_model(parser)
    asked = {action.dest for action in parser._actions} - {"help", "device"}
    assert asked == set(MODEL)


def test_two_rounds_by_the_command(light, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = write_pictures(tmp_path / "in", 4)
    (tmp_path / "shown").mkdir()
    pixels, mask = draw(99)
    Image.fromarray(pixels).save("shown/a.png")
    Image.fromarray(mask.astype(np.uint8) * 255).save("shown/a_mask.png")
    first = ["label", "in", "--reference", "shown/a.png", "shown/a_mask.png", "box"]
    assert main([*first, "--output", "out", "--format", "masks", "--batch-size", "3"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("round 1: 4 pictures\n")
    assert f"labels: folder:{tmp_path}/out/round-1/labels" in told
    labels = files_of(tmp_path / "out/round-1/labels")
    part = tmp_path / "part"
    for name in ("images/0001.png", "masks/0001.png", "classes.txt"):
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(labels[name])
    mine = Image.fromarray(draw(1)[1].astype(np.uint8))
    mine.save(part / "masks/0001.png")
    (part / "classes.txt").write_text("1 box\n")
    again = ["label", "--output", "out", "--round", "2", "--corrected", "part"]
    assert main([*again, "--precision", "fp16"]) == 2
    assert "--precision: round 1 was labelled with 'fp32'" in capsys.readouterr().err
    assert main(again) == 0
    told = capsys.readouterr().out
    assert told.startswith("round 2: 4 pictures, 1 of them corrected by you\n")
    assert light[0] == light[1] == ("segic_demo.yaml", None, "fp32", 3, [])
    found = np.asarray(Image.open("out/round-2/labels/masks/0001.png"))
    assert np.array_equal(found == 1, draw(1)[1])
    assert files_of(tmp_path / "out/round-1/labels") == labels
    assert main([*again[:-1], "nowhere"]) == 1 and "error: " in capsys.readouterr().err
    assert sorted(f.name for f in pictures.iterdir()) == [f"000{i}.png" for i in range(4)]


def test_what_cannot_be_read_is_exit_status_1(light, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures = write_pictures(tmp_path / "in", 2)
    (pictures / "0000.png").write_bytes(b"broken")
    Image.fromarray(draw(99)[0]).save("a.png")
    Image.fromarray(draw(99)[1]).save("m.png")
    assert main(["label", "in", "--reference", "a.png", "m.png", "--output", "out"]) == 1
    assert "could not be read: 1" in capsys.readouterr().out
