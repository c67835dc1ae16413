"""The first command that people type, on stand-ins: a ResNet's file, miniatures of the data."""

import json
import os
import pickle
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone

import train_net
from segic_d2.config.load import load_config
from segic_d2.modeling import save_text_table
from text_table import config_datasets, texts_of

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "python train_net.py --config-file configs/segic_R.yaml --num-gpus 8"
SMALL = {  # a ResNet-18 in place of the ResNet-50, and two iterations
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "INPUT.CANVAS": 96,
    "MODEL.SEGIC.DECODER.WIDTH": 32,
    "MODEL.SEGIC.DECODER.MLP": 64,
    "MODEL.SEGIC.LOSS.NUM_POINTS": 64,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.STEPS": "()",
    "DATASETS.TEST": "()",
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture(scope="module")
def zoo_file(tmp_path_factory):
    """Random weights in the form of the zoo's converted torchvision models, where Detectron2 would
    have downloaded R-50.pkl to."""
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    torch.manual_seed(0)
    state = build_backbone(cfg).state_dict()
    content = {"model": {name: value.numpy() for name, value in state.items()}}
    content |= {"__author__": "torchvision", "matching_heuristics": True}
    folder = tmp_path_factory.mktemp("cache")
    path = folder / "detectron2/ImageNetPretrained/torchvision/R-50.pkl"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(content))
    return folder, path


def documented():
    """The command of ADVANCED_USAGE.md for the embedded data and a file of one's own."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "ADVANCED_USAGE.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    (line,) = [x for x in lines if x.startswith(COMMAND) and "shapes_train_coco" in x]
    return line


def run(line, options, env):
    """Run a command in two gloo processes; options replace those of its end."""
    words = shlex.split(line.replace("--num-gpus 8", "--num-gpus 2"))
    assert words[:2] == ["python", "train_net.py"]
    words += [str(part) for option in {**SMALL, **options}.items() for part in option]
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SEGIC_D2_OFFLINE": "1", **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    output = Path(options["OUTPUT_DIR"])
    losses = [json.loads(x) for x in (output / "metrics.json").read_text().splitlines()]
    assert any(x.get("loss_mask", 0) > 0 and x["loss_dice"] > 0 for x in losses)
    assert max(x["iteration"] for x in losses) == 1
    assert (output / "model_final.pth").is_file()
    return done.stdout


@pytest.mark.slow
def test_it_trains_on_the_papers_mix_with_the_zoos_weights(paper_root, zoo_file, tmp_path):
    """Nothing about weights or data is changed: Detectron2 finds both where it looks for them."""
    cfg, table = load_config("segic_R.yaml"), str(tmp_path / "text.safetensors")
    texts = texts_of(cfg, config_datasets(cfg))
    save_text_table(table, texts, torch.randn(len(texts), 16))
    options = {
        "MODEL.SEGIC.TEXT.NAME": "table",
        "MODEL.SEGIC.TEXT.TABLE": table,
        "MODEL.SEGIC.TEXT.DIM": 16,
        "OUTPUT_DIR": tmp_path / "out",
    }
    env = {"FVCORE_CACHE": str(zoo_file[0]), "DETECTRON2_DATASETS": str(paper_root)}
    out = run(COMMAND, options, env)
    assert "loaded from detectron2://ImageNetPretrained/torchvision/R-50.pkl" in out


@pytest.mark.slow
def test_it_trains_on_the_embedded_data_with_a_file_as_documented(zoo_file, tmp_path):
    line = documented()
    assert " MODEL.BACKBONE.WEIGHTS R-50.pkl " in line and " MODEL.SEGIC.META False " in line
    out = run(line.replace(" R-50.pkl ", f" {zoo_file[1]} "), {"OUTPUT_DIR": tmp_path / "out"}, {})
    assert f"loaded from {zoo_file[1]}" in out


def test_runs_on_one_machine_do_not_share_a_port(capsys):
    one = train_net.parse_args(["--config-file", "segic_demo.yaml"])
    assert one.dist_url == "auto"
    chosen = train_net.parse_args(["--dist-url", "tcp://127.0.0.1:5000"])
    assert chosen.dist_url == "tcp://127.0.0.1:5000"
    line = "--num-machines 2 --machine-rank 1 --config-file segic_shapes_S.yaml TEST.SHOTS 0"
    with pytest.raises(SystemExit) as error:
        train_net.require(train_net.parse_args(line.split()))
    machines, shots = str(error.value).splitlines()
    assert machines.startswith("error: --num-machines 2 needs --dist-url tcp://HOST:PORT")
    assert shots.startswith("error: TEST.SHOTS is 0")
    flags = ["--dist-url", chosen.dist_url, *line.replace("1", "2", 1).split()]
    with pytest.raises(SystemExit, match="^error: --machine-rank 2 is not one of 0 to 1\n"):
        train_net.require(train_net.parse_args(flags))


def test_the_channel_statistics_are_those_of_the_zoos_file():
    """As Detectron2's converter of torchvision's models says; the stride is in the 3x3."""
    cfg = load_config("segic_R.yaml")
    assert cfg.INPUT.FORMAT == "RGB" and not cfg.MODEL.RESNETS.STRIDE_IN_1X1
    assert [round(255 * x, 3) for x in (0.485, 0.456, 0.406)] == list(cfg.MODEL.PIXEL_MEAN)
    assert [round(255 * x, 3) for x in (0.229, 0.224, 0.225)] == list(cfg.MODEL.PIXEL_STD)
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 5
