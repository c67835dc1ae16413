"""Made-up results in, tables out: nothing invented, nothing averaged that is not whole."""

import importlib.util
import json
from pathlib import Path

import pytest

from results.published import TABLE_1, TABLE_2, UNCHECKED
from results.tables import COLUMNS, collect, table_1_row, table_2_row, tables

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "collect_results.py"


def result(benchmark, metrics, **others):
    about = {"benchmark": benchmark, "shots": 1, "seen": "seen", "text": "text", "standard": True}
    return {**about, "metrics": metrics, "skipped": [], **others}


def write(folder, *results):
    for number, content in enumerate(results):
        path = folder / f"inference/{number}/few_shot/results.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))


def folds(figures, **others):
    found = [result("coco20i", {"mIoU": v}, fold=f, **others) for f, v in enumerate(figures)]
    return [*found, result("coco20i", {"mIoU": 1.0}, fold="mean", **others)]


def script():
    spec = importlib.util.spec_from_file_location("collect_results", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(text, name):
    """Cells of the rows that begin with a name, per table."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith(f"| {name}")]
    return [[c.strip(" |") for c in row[1:]] for row in rows]


def test_figures_stand_in_their_columns(tmp_path):
    write(
        tmp_path / "mine",
        *folds([70.0, 71, 72, 74]),
        result("fss1000", {"mIoU": 86.84}, fold=0, standard=False, own_episodes=True),
        result("sem_seg-ade20k", {"mIoU_all": 10.0, "mIoU_present": 55.44}, skipped=["a.jpg: b"]),
        result("pck", {"pck": 3.0}),
    )
    text = tables([collect(tmp_path / "mine")])
    (row,) = cells(text, "**mine, 1-shot, seen, text**")
    assert dict(zip(COLUMNS, row, strict=True)) == {
        **dict.fromkeys(COLUMNS, ""),
        **{"COCO-20i": "71.8", "FSS-1000": "86.8*", "ADE20K#": "55.4†"},
    }
    assert "\\* own episodes" in text and "† damaged data were left out" in text
    assert cells(text, "SegIC (DINOv2-L) [")[0][:3] == ["76.1", "86.8", "44.6"]


def test_folds_that_are_not_whole_are_no_mean():
    three = folds([70.0, 71, 72])
    assert table_1_row(three) == {}
    unseen = folds([50.0, 51, 52], seen="unseen", standard=False)
    row = table_2_row(unseen)
    assert list(row) == ["fold 0", "fold 1", "fold 2"]
    assert row["fold 1"] == (51.0, "*")
    whole = table_2_row(folds([50.0, 51, 52, 55], seen="unseen"))
    assert whole["mean"].value == 52.0 and whole["mean"].marks == ""


def test_only_unseen_classes_are_strict():
    assert table_2_row(folds([70.0, 71, 72, 74])) == {}
    assert table_2_row(folds([70.0, 71, 72, 74], seen="mixed")) == {}


def test_models_of_one_fold_each_are_one_row(tmp_path):
    """And those that saw some of the classes elsewhere are marked."""
    for fold, figure in enumerate([50.0, 51, 52, 55]):
        content = result("coco20i", {"mIoU": figure}, fold=fold, seen="unseen")
        write(tmp_path / f"strict_fold{fold}", content)
        content = {**content, "seen": "mixed", "metrics": {"mIoU": figure + 8}}
        write(tmp_path / f"plus_fold{fold}", content)
    text = tables([collect(folder) for folder in sorted(tmp_path.iterdir())])
    assert cells(text, "**strict_fold0-3, 1-shot, unseen, text**") == [
        ["50.0", "51.0", "52.0", "55.0", "52.0"]
    ]
    assert cells(text, "**plus_fold0-3‡, 1-shot, mixed, text**")[0][4] == "60.0"


def test_shots_are_rows_of_their_own(tmp_path):
    write(tmp_path / "x", *folds([60.0] * 4), *folds([65.0] * 4, shots=5))
    text = tables([collect(tmp_path / "x")])
    assert cells(text, "**x, 1-shot")[0][0] == "60.0" and cells(text, "**x, 5-shot")[0][0] == "65.0"


def test_texts_are_rows_of_their_own_and_doubles_are_refused(tmp_path):
    write(tmp_path / "x", *folds([60.0] * 4), *folds([50.0] * 4, text="no_text"))
    text = tables([collect(tmp_path / "x")])
    assert cells(text, "**x, 1-shot, seen, text**")[0][0] == "60.0"
    assert cells(text, "**x, 1-shot, seen, no_text**")[0][0] == "50.0"
    write(tmp_path / "x/other", *folds([60.0, 60.0, 61.0, 60.0]))
    with pytest.raises(SystemExit) as error:
        script().main([str(tmp_path / "x")])
    message = str(error.value)
    assert "two results of coco20i, fold 2, 1-shot" in message
    assert str(tmp_path / "x/other/inference/2/few_shot/results.json") in message


def test_published_rows_alone():
    """Nothing was run: all rows of others, none of ours, and no figure that is not checked."""
    text = tables([])
    assert "**" not in text
    names = "SegIC (DINOv2-L), SegIC (DINOv2-G), SegGPT, Matcher, Painter, PerSAM-F"
    unchecked = ["SINE", "DiffewS", "SANSA", "INSID3", "FoRIS"]
    for name in [*names.split(", "), *unchecked]:
        assert cells(text, f"{name} ["), name
    for name in unchecked:
        assert all(not any(row) for row in cells(text, f"{name} [")), name
    assert text.count(f"] {UNCHECKED}.") == 2
    assert cells(text, "SegIC [")[0] == ["55.8", "54.7", "52.4", "51.4", "53.6"]
    assert cells(text, "SegIC‡ [")[0] == ["62.3", "62.5", "63.3", "60.9", "62.3"]


def test_published_figures_are_those_of_the_sources():
    assert TABLE_1["Matcher"][1] == {
        **{"COCO-20i": 52.7, "FSS-1000": 87.0, "LVIS-92i": 33.0, "DAVIS-17": 79.5}
    }
    assert TABLE_1["SegIC (DINOv2-G)"][1]["LVIS-92i"] == 47.8
    for source, figures in (*TABLE_1.values(), *TABLE_2.values()):
        assert source and set(figures) <= {*COLUMNS, *(f"fold {f}" for f in range(4)), "mean"}
    for name in ("SegIC", "SegIC‡"):
        figures = dict(TABLE_2[name][1])
        mean = figures.pop("mean")
        assert sum(figures.values()) / 4 == pytest.approx(mean, abs=0.06)


def test_what_is_no_result_is_named(tmp_path, capsys):
    module = script()
    with pytest.raises(SystemExit, match=f"no results.json of a benchmark below {tmp_path}/none"):
        module.main([str(tmp_path / "none")])
    write(tmp_path / "bad", {"metrics": 3, "benchmark": "x"})
    with pytest.raises(SystemExit, match="few_shot/results.json is no result of an evaluation"):
        module.main([str(tmp_path / "bad")])
    write(tmp_path / "good", *folds([60.0] * 4))
    (tmp_path / "good/demo").mkdir()
    (tmp_path / "good/demo/results.json").write_text('{"seconds": 1}')  # no benchmark's
    module.main([str(tmp_path / "good")])
    assert "**good, 1-shot, seen, text** | 60.0" in capsys.readouterr().out
