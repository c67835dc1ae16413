"""tools/same_behaviour.py: the stored cheap recording, and what a comparison finds."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).with_name("same_behaviour.json")

sys.path.append(str(ROOT / "tools"))  # where the tool finds its parts, as a script does
spec = importlib.util.spec_from_file_location("same_behaviour", ROOT / "tools/same_behaviour.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
comparing, Recording = tool.comparing, tool.Recording
KINDS = "predictor", "training", "evaluations", "tensors"
EMBEDDED = any(tool.checkouts.toys.user_cache().glob("*.safetensors"))


# ---- the stored recording ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """{part: how it compares} of the stored recording and this checkout."""
    out = tmp_path_factory.mktemp("recording") / "cheap"
    kinds = KINDS if EMBEDDED else KINDS[1:]
    code = tool.main(["record", str(out), "--cheap", "--only", *kinds])
    recorded = Recording.load(out)
    assert code == 0, recorded.failures
    return comparing.compare(Recording.load(STORED), recorded, 1e-3, 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_this_checkout_behaves_as_the_stored_recording(found, kind):
    if kind == "predictor" and not EMBEDDED:
        pytest.skip("the embedded weights are not prepared")
    parts = {name: part for name, part in found.items() if name.startswith(f"{kind}/")}
    differences, _ = comparing.remarks(parts)
    assert parts and not differences, "\n".join(differences)


def test_the_stored_recording_is_small():
    assert STORED.stat().st_size <= 60_000
    assert {name.partition("/")[0] for name in Recording.load(STORED).parts} == set(KINDS)


# ---- what a comparison finds -------------------------------------------------------------------


def recording(**changes):
    """A recording with one float, one text and three arrays; some of them changed."""
    made = Recording(facts={"torch": "2"})
    values = {
        "iou": 50.0,
        "shape": "(3, 4)",
        "count": 12,
        "logits": np.linspace(-8, 8, 300).reshape(3, 100),
        "small": np.full(5, 1e-3, np.float32),
        "labels": np.arange(20_000) % 3,
        **changes,
    }
    for name, value in values.items():
        kind = "arrays" if isinstance(value, np.ndarray) else "scalars"
        made.add("toy/one", **{kind: {name: value}})
    return made


def compared(one, two, part="toy/one"):
    result = comparing.compare(one, two)[part]
    return result.state, result.lines


def test_the_same_is_equal_to_the_bit_also_from_files(tmp_path):
    recording().save(tmp_path / "a")
    assert compared(recording(), recording()) == (comparing.EQUAL, [])
    assert compared(Recording.load(tmp_path / "a"), recording()) == (comparing.EQUAL, [])
    undefined = float("nan")
    assert compared(recording(iou=undefined), recording(iou=undefined))[0] == comparing.EQUAL


@pytest.mark.parametrize(
    "name, value, state",
    [
        ("iou", 50.0049, comparing.WITHIN),  # 1e-4 of 50 is 0.005
        ("iou", 50.0051, comparing.DIFFERENT),
        ("iou", float("nan"), comparing.DIFFERENT),
        ("logits", recording().arrays["toy/one"]["logits"] + 7.9e-4, comparing.WITHIN),
        ("logits", recording().arrays["toy/one"]["logits"] + 8.1e-4, comparing.DIFFERENT),
        ("small", np.full(5, 1e-3 + 9e-6, np.float32), comparing.WITHIN),  # 1e-5 at least
        ("small", np.full(5, 1e-3 + 1.1e-5, np.float32), comparing.DIFFERENT),
        ("labels", np.where(np.arange(20_000) < 2, 7, np.arange(20_000) % 3), comparing.WITHIN),
        ("labels", np.where(np.arange(20_000) < 3, 7, np.arange(20_000) % 3), comparing.DIFFERENT),
        ("count", 13, comparing.DIFFERENT),
        ("count", 12.0, comparing.DIFFERENT),
        ("shape", "(4, 3)", comparing.DIFFERENT),
        ("logits", np.linspace(-8, 8, 300), comparing.DIFFERENT),  # another shape
        ("small", np.full(5, 1e-3), comparing.DIFFERENT),  # another type
    ],
)
def test_the_tolerance(name, value, state):
    found, lines = compared(recording(), recording(**{name: value}))
    assert found == state
    assert [line.partition(":")[0] for line in lines] == [name] * (state == comparing.DIFFERENT)


def test_what_is_missing_is_a_difference():
    more = recording(other=1.0)
    assert compared(more, recording())[1] == ["other: missing in B"]
    assert compared(recording(), more)[1] == ["other: missing in A"]
    broken = Recording(failures={"toy/one": "KeyError: no"})
    assert compared(recording(), broken)[1] == ["missing in B: KeyError: no"]
    assert compared(Recording(), recording())[1] == ["missing in A: not recorded"]


def test_what_has_a_successor_may_go_but_not_with_it(monkeypatch):
    monkeypatch.setattr(comparing.layout, "SUCCESSORS", {"toy/one": "toy/two"})
    after = Recording(scalars={"toy/two": {}}, failures={"toy/one": "KeyError: no"})
    before = recording()
    before.add("toy/two")
    assert compared(before, after) == (
        comparing.GONE,
        ["gone (KeyError: no); its successor is toy/two"],
    )
    state, lines = compared(before, Recording())
    assert state == comparing.DIFFERENT and "successor toy/two is missing" in lines[-1]


def test_a_part_without_its_data_is_skipped():
    assert compared(recording(), Recording(skipped={"toy/one": "no data"})) == (
        comparing.SKIPPED,
        ["no data"],
    )


def test_a_summary_is_compared_as_the_whole(tmp_path):
    recording().save(tmp_path / "a.json")
    stored = Recording.load(tmp_path / "a.json")
    assert compared(stored, recording()) == (comparing.EQUAL, [])
    for name, change in (("logits", 1.0), ("labels", 1), ("small", 1e-4)):
        changed = recording(**{name: recording().arrays["toy/one"][name] + change})
        state, (line,) = compared(stored, changed)
        assert state == comparing.DIFFERENT and line.startswith(f"{name}:")
    state, (line,) = compared(stored, recording(logits=np.zeros((2, 100))))
    assert line == "logits: float64 (3, 100) and float64 (2, 100)"


def test_the_command_line_says_what_differs(tmp_path, capsys):
    recording().save(tmp_path / "a")
    recording(iou=49.0).save(tmp_path / "b")
    assert tool.main(["compare", str(tmp_path / "a"), str(tmp_path / "a")]) == 0
    assert "| toy/one | equal to the bit |  |" in capsys.readouterr().out
    assert tool.main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    out = capsys.readouterr().out
    assert "| toy/one | different | 1 (iou) |" in out
    assert "toy/one: iou: 50 and 49\n1 differences" in out
    with pytest.raises(SystemExit, match="no_such_place is neither a recording nor a git revision"):
        tool.main(["compare", "no_such_place", str(tmp_path / "a")])
