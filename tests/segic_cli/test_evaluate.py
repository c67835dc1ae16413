"""``segic evaluate``; tests/engine/evaluations has what is measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from segic_cli.evaluate import table
from segic_cli.main import main
from segic_d2.config import load_config
from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.engine.evaluations.pairs import PairEvaluation
from segic_d2.predictor import InContextPredictor
from tests.predictor.parts import picture, square
from tests.segic_cli.test_main import light
from tests.tiny import tiny_config

NEVER = ["MODEL.SEGIC.TEST.MIN_SCORE", 0.0]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder of class folders, one of label maps, a config that abstains from all, weights."""
    monkeypatch.chdir(tmp_path)
    names = "pairs/cat/1", "pairs/cat/2", "pairs/big_dog/1", "pairs/big_dog/2", "pairs/big_dog/3"
    for seed, name in enumerate(names):
        for image, mask in ((name, name), (f"maps/images/{seed}", f"maps/masks/{seed}")):
            for file in (image, mask):
                Path(file).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(seed)).save(f"{image}.jpg")
            Image.fromarray(square(x=9 * seed).astype(np.uint8)).save(f"{mask}.png")
    opts = "MODEL.BACKBONE.WEIGHTS", "random", "DATALOADER.NUM_WORKERS", 0
    cfg = tiny_config(*opts, "OUTPUT_DIR", "out", *NEVER[:1], 1.0)
    torch.manual_seed(0)
    torch.save({"model": InContextPredictor(cfg, device="cpu").model.state_dict()}, "tiny.pth")
    Path("tiny.yaml").write_text(cfg.dump())
    return tmp_path


CONFIG = ["--config-file", "tiny.yaml", "--weights", "tiny.pth", "--device", "cpu"]


def cells(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]


def test_pairs_of_a_folder(work, capsys):
    argv = ["pairs", *CONFIG, "--shots", "2", "--seed", "3", "--output", "new/figures.json"]
    assert main(["evaluate", *argv]) == 0
    shown = capsys.readouterr()
    cfg = load_config("tiny.yaml")
    model = InContextPredictor(cfg, "tiny.pth", "cpu", opts=NEVER).model
    plain = PairEvaluation(cfg, model, PairFolder("pairs"), shots=2, seed=3).plain.model.result()
    found = json.loads(Path("new/figures.json").read_text())
    mean = {key: plain[key] for key in ("IoU", "boundary_IoU")}
    assert found["results"] == {**plain["classes"], "mean": mean} and mean["IoU"] > 0
    about = {"data": "pairs", "weights": "tiny.pth", "shots": 2, "seed": 3, "opts": []}
    assert found == {**about, "config_file": "tiny.yaml", "results": found["results"]}
    lines = cells(shown.out)
    assert lines[0] == ["", "IoU", "boundary IoU"]
    assert [x[0] for x in lines[2:]] == ["big dog", "cat", "mean"] and not shown.err
    assert lines[-1] == ["mean", f"{mean['IoU']:.1f}", f"{mean['boundary_IoU']:.1f}"]


@pytest.mark.parametrize("data", ["maps", "folder:pairs"])
def test_a_data_set(work, capsys, data):
    argv = [data, *CONFIG, "--output", "f.json", "--opts", "TEST.EPISODES", "4", *map(str, NEVER)]
    assert main(["evaluate", *argv]) == 0
    shown = capsys.readouterr()
    (results,) = json.loads(Path("f.json").read_text())["results"].values()
    assert results["episodes"] == 4 and results["mIoU"] > 0
    assert ["one_shot", "mIoU", f"{results['mIoU']:.1f}"] in cells(shown.out)
    (folder,) = Path("out/inference").iterdir()
    assert json.loads((folder / "one_shot/results.json").read_text())["metrics"]["mIoU"] > 0


def test_tables():
    alike = {"cat": {"IoU": 12.34, "boundary_IoU": 5.0}, "mean": {"IoU": 1.0, "boundary_IoU": 2.0}}
    head, _, *rows = cells(table(alike))
    assert head == ["", "IoU", "boundary IoU"]
    assert rows == [["cat", "12.3", "5.0"], ["mean", "1.0", "2.0"]]
    other = {"one_shot": {"mIoU": 50.0}, "pck": {"PCK": 1.26, "x": float("nan")}}
    head, _, *rows = cells(table(other))
    assert head == ["evaluation", "metric", "value"]
    assert rows == [["one_shot", "mIoU", "50.0"], ["pck", "PCK", "1.3"], ["pck", "x", "nan"]]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing"], "DATASETS.TEST names 'nothing', which is neither a folder nor a"),
        (["pairs/cat"], "pairs/cat has no class folders"),
        (["pairs", "--weights", "tiny.yaml"], "cannot read the checkpoint tiny.yaml"),
        (["pairs", "--opts", "MODEL.FOO", "1"], "Non-existent key: MODEL.FOO"),
        (["maps", "--opts", "TEST.EPISODES", "0"], "TEST.EPISODES is 0"),
    ],
)
def test_what_is_wrong_is_one_line(work, capsys, argv, message):
    assert main(["evaluate", *CONFIG, *argv]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["missing/x"], 1, "no such folder: missing/x"),
        ([".", "--opts", "SEED"], 2, "--opts SEED: expected KEY VALUE pairs"),
        ([".", "--shots", "0"], 2, "argument --shots: invalid count value"),
        ([".", "--output", "file/x.json"], 1, "--output file: "),
        ([".", "--weights", "no.pth"], 1, "--weights: no such file: no.pth"),
    ],
)
def test_what_is_wrong_shows_before_anything_is_imported(tmp_path, argv, status, message):
    (tmp_path / "file").touch()
    found, (line,), _ = light("evaluate", *argv, cwd=tmp_path)
    assert found == status and line.startswith(f"error: {message}")
