"""The table of peers: what is printed is what is documented, and our rows fill themselves."""

import runpy
from pathlib import Path

import pytest

from results.peers import BENCHMARKS, PEERS, SOURCES
from tests.tools.test_collect_results import cells, result, write

ROOT = Path(__file__).resolve().parents[2]
FIVE = {"coco20i_5shot", "fss1000_5shot", "lvis92i_5shot", "pascal5i_5shot"}


def printed(monkeypatch, capsys, *argv):
    monkeypatch.setattr("sys.argv", ["results", *map(str, argv)])
    runpy.run_path(str(ROOT / "tools/results"), run_name="__main__")
    return capsys.readouterr().out


def test_the_documented_table_is_the_printed_one(monkeypatch, capsys):
    text = (ROOT / "docs/peers.md").read_text(encoding="utf-8")
    assert text[text.index("| | trained on |") :] == printed(monkeypatch, capsys)


def test_every_benchmark_that_runs_has_a_column():
    configs = {file.stem for file in (ROOT / "configs/eval").glob("*.yaml")}
    assert {config for *_, config in BENCHMARKS.values()} == configs - FIVE


def test_every_figure_has_a_column_and_a_source():
    used = set()
    for _, trained, figures in PEERS:
        assert trained and set(figures) <= set(BENCHMARKS)
        for one, five, source in figures.values():
            assert 0 < one < 100 and (five is None or 0 < five < 100)
            used.add(source)
    assert used == set(SOURCES)


def test_our_rows_are_made_of_results(monkeypatch, capsys, tmp_path):
    folds = [result("pascal5i", {"mIoU": 60.0 + f}, fold=f, shots=5) for f in range(4)]
    video = {"dataset": "davis17_val", "standard": False}
    write(
        tmp_path / "mine",
        *folds,
        result("fss1000", {"mIoU": 86.84}),
        result("video-davis17", {"J&F_Mean": 70.04}, **video),
        result("coco20i", {"mIoU": 50.0}, fold=0),
    )
    rows = printed(monkeypatch, capsys, f"SegGPT={tmp_path / 'mine'}", tmp_path / "mine")
    empty = dict.fromkeys(BENCHMARKS, "")
    filled = {**empty, "PASCAL-5i": "/61.5", "FSS-1000": "86.8", "DAVIS-17": "70.0*"}
    for name, expected in (("SegGPT", filled), ("mine", filled), ("SegIC", empty)):
        ((_, *row),) = cells(rows, f"**{name}, here**")
        assert dict(zip(BENCHMARKS, row, strict=True)) == expected, name
    assert "\\* own episodes" in rows and "†" not in rows


def test_two_results_of_one_cell_and_no_folder_are_one_line(monkeypatch, capsys, tmp_path):
    write(tmp_path, result("fss1000", {"mIoU": 1.0}), result("fss1000", {"mIoU": 2.0}))
    for argv, message in (
        (tmp_path, "error: two results of fss1000"),
        (tmp_path / "no", "error: no results.json"),
    ):
        with pytest.raises(SystemExit, match=message):
            printed(monkeypatch, capsys, argv)
