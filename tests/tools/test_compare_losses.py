"""Losses of two runs beside each other."""

import json
import runpy
from pathlib import Path

import pytest

main = runpy.run_path(Path(__file__).resolve().parents[2] / "tools/compare_losses.py")["main"]


def write(folder, rows):
    folder.mkdir()
    (folder / "metrics.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder)


def test_the_largest_difference_of_common_iterations(tmp_path, capsys):
    one = [{"iteration": i, "total_loss": v} for i, v in ((19, 2.0), (39, 1.0), (59, 0.5))]
    other = [{"iteration": i, "total_loss": v} for i, v in ((19, 2.1), (39, 0.9), (79, 9.0))]
    main(
        [write(tmp_path / "a", [*one, {"iteration": 60, "mIoU": 1}]), write(tmp_path / "b", other)]
    )
    assert capsys.readouterr().out == (
        "total_loss: 10.00% apart at most, after iteration 39, of 2 compared\n"
    )


def test_what_cannot_be_compared_is_named(tmp_path):
    a = write(tmp_path / "a", [{"iteration": 1, "total_loss": 1.0}])
    b = write(tmp_path / "b", [{"iteration": 2, "total_loss": 1.0}])
    c = write(tmp_path / "c", [{"iteration": 2}])
    for other, message in ((b, "no iteration in common"), (c, "c/metrics.json has no total_loss")):
        with pytest.raises(SystemExit, match=message):
            main([a, other])
    with pytest.raises(SystemExit, match="metrics.json"):
        main([a, str(tmp_path / "nothing")])
