"""The tool that draws the worst and the best episodes."""

import numpy as np
import pytest
from PIL import Image

import draw_pairs
from tests.tiny import tiny_config
from tests.tools.test_compare_heads import folder  # noqa: F401  a fixture


def test_worst_and_best_are_written_and_a_missing_folder_is_one_line(folder, tmp_path, capsys):  # noqa: F811
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config().dump())
    arguments = ["--config-file", str(config), "--count", "3", "--height", "60"]
    draw_pairs.main([str(folder), *arguments, "--output", str(tmp_path / "out")])
    assert "6 episodes" in capsys.readouterr().out
    for name in ("worst", "best"):  # one kind: one row, and an empty place beside it
        with Image.open(tmp_path / "out" / f"{name}.jpg") as picture:
            pixels = np.asarray(picture)
        middle = pixels.shape[1] // 2
        assert pixels[:, :middle].min() < 60 and pixels[:, middle + 8 :].min() > 240
    with pytest.raises(SystemExit, match="error: no such folder: nowhere"):
        draw_pairs.main(["nowhere", *arguments, "--output", str(tmp_path)])


def test_what_other_options_change_is_drawn(folder, tmp_path, capsys):  # noqa: F811
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config().dump())
    arguments = [str(folder), "--config-file", str(config), "--count", "4", "--height", "60"]
    before = "--before", "MODEL.SEGIC.TEST.THRESHOLD", "50.0"  # which finds nothing
    draw_pairs.main([*arguments, "--output", str(tmp_path), *before])
    with Image.open(tmp_path / "changed.jpg") as picture:
        pixels = np.asarray(picture)
    assert pixels.min() < 60 and 60 < len(pixels) < 120  # one kind: one row


def test_one_of_a_kind_in_the_order_given():
    one, other = (type("Folder", (), {"root": name}) for name in "ab")
    kinds = (one, 0), (one, 0), (other, 0), (one, 1), (other, 0)
    found = [(n, own, kind, "", "") for n, (own, kind) in enumerate(kinds)]
    assert [x[0] for x in draw_pairs.extremes(found, 2)] == [0, 2]
    assert [x[0] for x in draw_pairs.extremes(found[::-1], 9)] == [4, 3, 1]
