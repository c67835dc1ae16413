"""The ablation table on the embedded data: its rows, its texts, and how it goes on."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from segic_d2.config.load import load_config
from segic_d2.modeling.text.encoder import read_text_table, save_text_table

FILE = Path(__file__).resolve().parents[2] / "tools/run_ablations.py"
SMALL = [
    *("INPUT.CANVAS", 56, "MODEL.TIMM.BLOCKS", "(0,)", "MODEL.SEGIC.DECODER.WIDTH", 32),
    *("TEST.EPISODES", 4),
    *("MODEL.SEGIC.LOSS.NUM_POINTS", 64, "SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2),
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("run_ablations", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_are_those_of_the_papers_configs(tool):
    """Each row switches what the ablation config of its name switches; meta where texts are."""
    keys = (tool.REVERSION, tool.NEGATIVES, tool.DENSE, tool.POINT, tool.VISUAL, tool.META)
    for row, changes in tool.ROWS.items():
        for name in row.split(" = "):
            paper = load_config(f"ablations/{name.replace(' ', '_')}.yaml")
            ours = paper.clone()
            ours.merge_from_list([x for pair in changes.items() for x in pair])
            assert set(changes) == set(keys) and ours == paper, name
    assert len({json.dumps(changes) for changes in tool.ROWS.values()}) == 8


def test_a_text_is_the_sum_of_its_words(tool):
    a, b, c, empty = tool.word_vectors(["red star", "red ring", "blue fish", ""], 4096)
    for vector in (a, b, c, empty):
        assert vector.norm() == pytest.approx(1, abs=1e-5)
    assert a @ b == pytest.approx(0.5, abs=0.05)  # one word of two in common
    assert max(abs(a @ c), abs(a @ empty)) < 0.05
    assert torch.equal(a, tool.word_vectors(["red star"], 4096)[0])


def test_the_table_goes_on_and_shares_what_the_backbone_saw(tool, tmp_path, monkeypatch, capsys):
    rows = ["strategies none", "instructions visual"]
    arguments = ["--output", str(tmp_path), "--rows", *rows, "--seeds", "0", "1"]
    opts = ["--opts", *map(str, SMALL)]
    calls, run = [], tool.run
    monkeypatch.setattr(tool, "run", lambda cfg, shared: calls.append(shared) or run(cfg, shared))
    tool.main([*arguments, *opts])
    assert calls[0] is None and all(c is not None for c in calls[1:]) and len(calls) == 4
    files = [tmp_path / f"{r.replace(' ', '_')}-seed1/results.json" for r in rows]
    second = json.loads(files[1].read_text())
    # alone it is the same run, whatever came before it
    files[1].unlink()
    calls.clear()
    tool.main([*arguments, *opts])
    assert len(calls) == 1 and calls[0] is None
    again = json.loads(files[1].read_text())
    assert {**again, "seconds": 0} == {**second, "seconds": 0}
    # another config is another run
    calls.clear()
    tool.main([*arguments, *opts, "SEED", "1", "SOLVER.BASE_LR", "0.002"])
    assert len(calls) == 4
    # so are another tower's vectors, wherever they lie
    calls.clear()
    other = tmp_path / "other.safetensors"
    texts, vectors, _ = read_text_table(tmp_path / "words.safetensors")
    save_text_table(other, texts, vectors.flip(0))
    tool.main([*arguments, "--text-table", str(other), *opts])
    assert len(calls) == 4
    calls.clear()
    tool.main([*arguments, "--text-table", str(other.rename(tmp_path / "moved")), *opts])
    assert not calls
    for seed, seen in enumerate((40.0, 44.0)):
        file = tmp_path / f"strategies_none-seed{seed}/results.json"
        file.write_text(json.dumps({"seen": seen, "novel": 10.0}))
    capsys.readouterr()
    table = tool.table(tmp_path, rows[:1], (0, 1))
    assert "| strategies none | 42.0 ± 2.8 | 10.0 ± 0.0 |" in table
