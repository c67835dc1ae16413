"""``segic tune-context``; tests/engine/test_tune_context.py has what tuning does."""

from pathlib import Path

import pytest

from segic_cli.main import main
from segic_d2.checkpoint.pretrained import RELEASED, Released
from segic_d2.structures.context import Context
from tests.segic_cli.test_main import light
from tests.segic_cli.test_tune import work  # noqa: F401  a fixture

MODEL = ["--config-file", "tiny.yaml", "--weights", "w.pth", "--device", "cpu"]
START = ["tune-context", "--references", "reds", "--output", "tuned.safetensors"]


def test_before_and_after_are_printed_and_the_context_is_used(work, capsys):  # noqa: F811
    how = ["--steps", "3", "--batch", "2", "--rate", "0.05", "--seed", "1"]
    assert main([*START, *MODEL, *how]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith("mIoU on 2 held-out pictures: before ")
    assert second.startswith("(3 steps on 4 pictures, 4 of a class in the context, ")
    assert third == "the better context is in tuned.safetensors"
    context = Context.load("tuned.safetensors")
    assert context.names == ["red"] and context.shots.shape == (1, 4)
    segment = ["segment", "--context", "tuned.safetensors", "--input", "reds/red/1.png"]
    assert main([*segment, "--output", "found", *MODEL]) == 0
    assert any(Path("found").glob("1*.png"))
    assert main([*START, *MODEL, "--steps", "1", "--instances", "--test", "reds"]) == 0
    assert capsys.readouterr().out.splitlines()[-3].startswith("mIoU on 6 held-out pictures: ")
    assert Context.load("tuned.safetensors").task == "instance"


def test_nothing_else_is_written_over(work, capsys):  # noqa: F811
    Path("tuned.safetensors").write_text("mine")
    assert main([*START, *MODEL]) == 1
    assert "tuned.safetensors is there already and is no context" in capsys.readouterr().err
    assert Path("tuned.safetensors").read_text() == "mine"


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["a/b", "--output", "x.safetensors"], 1, "no such folder: a/b"),
        ([".", "--output", "x.pth"], 2, "--output x.pth: it must end in .safetensors"),
        ([".", "--output", "file/x.safetensors"], 1, "--output file: "),
        ([".", "--output", "x.safetensors", "--seed", "-1"], 2, "--seed is -1; it must be 0 or"),
        ([".", "--output", "x.safetensors", "--rate", "0"], 2, "argument --rate: invalid number"),
        ([".", "--output", "x.safetensors", "--weights", "no.pth"], 1, "--weights: no such file"),
        (
            [".", "--output", "x.safetensors", "--model", "a", "--config-file", "b"],
            2,
            "argument --config-file: not allowed with argument --model",
        ),
    ],
)
def test_what_is_wrong_shows_before_anything_is_imported(tmp_path, argv, status, message):
    (tmp_path / "file").touch()
    found, (line,), _ = light("tune-context", "--references", *argv, cwd=tmp_path)
    assert found == status and line.startswith(f"error: {message}")


def test_a_model_has_a_name(work, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setitem(RELEASED, "other", Released("segic_demo.yaml", "w.pth of example.org"))
    assert main([*START, "--model", "other"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    start = "error: the weights of 'other' do not ship: give as weights a file, "
    assert line == f"{start}w.pth of example.org"
    assert main([*START, "--model", "nobody"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no pretrained decoder 'nobody'; there are segic-demo, ")
