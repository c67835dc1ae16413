"""tools/list_episodes.py: JSON lines on stdout, remarks on stderr."""

import importlib.util
import json
from pathlib import Path

import pytest

from segic_d2.data.benchmarks import BENCHMARK_REGISTRY, EpisodeList, FewShotEpisode
from tests.data.benchmarks.published import PROTOCOLS, needs_protocols
from tests.miniatures import coco20i, fss1000, pascal5i

PATH = Path(__file__).resolve().parents[2] / "tools" / "list_episodes.py"
SPEC = importlib.util.spec_from_file_location("list_episodes", PATH)
tool = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def printed(capsys, *args):
    assert tool.main(list(args)) == 0
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


@needs_protocols
@pytest.mark.parametrize("fold", range(4))
@pytest.mark.parametrize("shots", [1, 5])
def test_the_published_episodes(capsys, fold, shots):
    args = "--fold", str(fold), "--shots", str(shots), "--lists", str(PROTOCOLS)
    found, err = printed(capsys, "coco20i", *args)
    expected = json.loads((PROTOCOLS / f"coco20i_fold{fold}_{shots}shot_first40.json").read_text())
    assert len(found) == 1000 and err == ""
    assert found[:40] == [
        {"class": e["class"], "target": e["query"], "references": e["support"]} for e in expected
    ]


@pytest.mark.parametrize(
    "benchmark, miniature, number",
    [("coco20i", coco20i, 1000), ("pascal5i", pascal5i, 1000), ("fss1000", fss1000, 30)],
)
def test_the_default_place_and_what_is_not_standard(
    tmp_path, monkeypatch, capsys, benchmark, miniature, number
):
    miniature.make(tmp_path)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    found, err = printed(capsys, benchmark, "--shots", "2")
    assert len(found) == number and "not the standard episodes: " in err
    for line in found:
        assert list(line) == ["class", "target", "references"]
        assert isinstance(line["class"], int) and len(line["references"]) == 2
        assert line["target"] not in line["references"]


def test_objects_and_skipped_classes_are_shown(monkeypatch, capsys):
    episode = FewShotEpisode(3, "é.jpg", ("b.jpg",), objects=(2, 0))
    listed = EpisodeList("x", 0, 1, {3: "dog"}, [episode], False, "made up", ("class 1 has one",))
    monkeypatch.setattr(tool, "list_episodes", lambda *args: listed)
    assert tool.main(["x"]) == 0
    out, err = capsys.readouterr()
    assert out == '{"class": 3, "target": "é.jpg", "references": ["b.jpg"], "objects": [2, 0]}\n'
    assert err == "not the standard episodes: made up\nleft out: class 1 has one\n"


@pytest.mark.parametrize("benchmark", sorted(name for name, _ in BENCHMARK_REGISTRY))
def test_missing_lists_are_one_line(tmp_path, capsys, benchmark):
    assert tool.main([benchmark, "--lists", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert str(tmp_path) in err


def test_an_unknown_benchmark_is_one_line(capsys):
    assert tool.main(["coco"]) == 1
    assert capsys.readouterr().err.startswith("error: no benchmark 'coco'; there are: coco20i")
