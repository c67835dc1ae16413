"""``segic train``; tests/engine/test_training.py has what a training does."""

import os
from pathlib import Path

import pytest
from PIL import Image

from segic_cli import train
from segic_cli.checks import UsageError
from segic_cli.main import main
from tests.segic_cli.test_main import light
from tests.tiny import tiny_config


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a data set, two that are laid out otherwise, and a config; the log and the
    random numbers of this process are left as they are."""
    for name in ("default_setup", "setup_logger"):
        monkeypatch.setattr(f"segic_d2.engine.run.{name}", lambda *args, **options: None)
    monkeypatch.chdir(tmp_path)
    for name in ("data/coin/1", "data/coin/2", "data/key/1", "data/key/2"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(f"{name}.jpg")
        Image.new("L", (32, 32), 255).save(f"{name}.png")
    for name, size in (("sizes/coin/1", 32), ("sizes/coin/2", 30)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(f"{name}.jpg")
        Image.new("L", (size, 32), 255).save(f"{name}.png")
    for name in ("voc/JPEGImages/a.jpg", "voc/Annotations/a.xml", "flat/a.json"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}")
    mix = "DATASETS.EPISODE_MAPPERS", ("semantic",) * 2, "DATASETS.WEIGHTS", (0.5, 0.5)
    small = "SOLVER.MAX_ITER", 1, "SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0
    cfg = tiny_config(
        *("MODEL.BACKBONE.WEIGHTS", "random", "OUTPUT_DIR", str(tmp_path / "out")),
        *("DATASETS.TRAIN", ("a", "b"), "DATASETS.TEST", ("c",), "TEST.EPISODES", 2),
        *(*small, *mix, "DATASETS.DRAW", ("image", "class")),
    )
    Path("tiny.yaml").write_text(cfg.dump())
    return tmp_path


CONFIG = ["--config-file", "tiny.yaml"]


def test_data_come_before_the_pairs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("DATA").mkdir()
    assert train.parts(["a/b", "SOLVER.MAX_ITER", "-1"]) == (["a/b"], ["SOLVER.MAX_ITER", "-1"])
    assert train.parts(["DATA", "SEED", "7"]) == (["DATA"], ["SEED", "7"])
    assert train.parts(["coco_2014_train", "folder:x"]) == (["coco_2014_train", "folder:x"], [])
    for words, message in (
        (["SEED"], "the config key SEED has no value"),
        (["SEED", "1", "a/b", "2"], "'a/b' stands where a config key is expected"),
        (["SEED", "1", "--weights", "x"], "unrecognized option --weights"),
        (["--eval-only"], "unrecognized option --eval-only"),
    ):
        with pytest.raises(UsageError, match=message):
            train.parts(words)


def test_a_folder_is_a_data_set(tmp_path):
    assert train.dataset(str(tmp_path)) == f"folder:{tmp_path}"
    for name in (f"folder:{tmp_path}", "coco:a/b.json:c/d", "coco_2014_train", "folder:s3://a/b"):
        assert train.dataset(name) == name
    for name in ("folder:missing", "data/missing", "/missing"):
        with pytest.raises(FileNotFoundError, match="no such folder: .*missing"):
            train.dataset(name)


def test_options_may_stand_behind_the_pairs(work, monkeypatch):
    seen = []
    monkeypatch.setattr("segic_d2.engine.run.find_problems", lambda args: seen.append(args) or [])
    monkeypatch.setattr("detectron2.engine.launch", lambda *args, **options: None)
    words = ["data", "SOLVER.MAX_ITER", "3", "--resume", "SEED", "-1", "--num-gpus", "2"]
    assert main(["train", *words, *CONFIG]) == 0
    (args,) = seen
    assert (args.resume, args.num_gpus, args.config_file) == (True, 2, "tiny.yaml")
    assert args.opts[-4:] == ["SOLVER.MAX_ITER", "3", "SEED", "-1"]


def test_a_folder_trains_under_any_config(work, capsys):
    """What the config says of its own two data sets is cleared."""
    assert main(["train", "data", *CONFIG]) == 0
    assert Path("out/model_final.pth").is_file() and not Path("out/inference").exists()
    resumed = ["train", "data", *CONFIG, "--test", "data", "SOLVER.MAX_ITER", "2", "--resume"]
    assert main(resumed) == 0
    assert os.listdir("out/inference") == ["folder_data"]
    assert "error" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["voc"], "dataset 'folder:voc': no images in class folder voc/Annotations"),
        (["flat"], "dataset 'folder:flat': flat has neither class folders nor images/ and masks/"),
        (["data", "--test", "voc"], "dataset 'folder:voc': no images in class folder"),
        (["sizes"], "the mask of sizes/coin/2.jpg (sizes/coin/2.png) is 30x32 px, the image as "),
        (["coco:flat/a.json:flat"], "flat/a.json has no 'images': it is no file of COCO"),
        (["data", "flat/a.json"], "no such folder: flat/a.json"),
        (["nothing"], "DATASETS.TRAIN names 'nothing', which is neither a folder nor a registered"),
        ([], "DATASETS.TRAIN names 'a', which is neither a folder nor a registered dat"),
        (["data", "--config-file", "no.yaml"], "no config 'no.yaml'"),
        (["data", "TEST.SHOTS", "0"], "TEST.SHOTS is 0"),
    ],
)
def test_what_is_wrong_is_one_line_before_the_run(work, capsys, argv, message):
    assert main(["train", *CONFIG, *argv]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (["missing/x"], 1, "no such folder: missing/x"),
        (["x", "SEED"], 2, "the config key SEED has no value"),
        (["x", "--num-gpus", "0"], 2, "argument --num-gpus: invalid count value: '0'"),
        (
            ["x", "--num-machines", "2"],
            2,
            "--num-machines: segic train runs on one machine; ",
        ),
        (
            ["x", "SEED", "1", "--dist-url=tcp://a:1"],
            2,
            "--dist-url=tcp://a:1: segic train ",
        ),
    ],
)
def test_what_is_wrong_shows_before_anything_is_imported(tmp_path, argv, status, message):
    found, (line,), _ = light("train", *argv, cwd=tmp_path)
    assert found == status and line.startswith(f"error: {message}")
