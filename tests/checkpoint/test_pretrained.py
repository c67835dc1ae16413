"""The decoders that ship with the package."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from PIL import Image
from safetensors.torch import load_file

from segic_d2 import InContextPredictor
from segic_d2.checkpoint import SegICCheckpointer, pretrained, trainable_state_dict
from segic_d2.checkpoint.pretrained import (
    FOLDER,
    PRETRAINED,
    find_model,
    name_of,
    weights_file,
)
from segic_d2.config.load import get_config_file, load_config
from segic_d2.modeling.backbone.embedded import cache_path
from tests.engine.short_runs import train
from tests.predictor.parts import picture, square

ROOT = Path(__file__).resolve().parents[2]
RANDOM_BACKBONE = ("MODEL.BACKBONE.WEIGHTS", "")
NAMES = sorted(PRETRAINED)

spec = importlib.util.spec_from_file_location("export_weights", ROOT / "tools/export_weights.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_whole_small_and_described(name):
    path = Path(weights_file(name))
    assert path.stat().st_size <= 12e6
    about = (FOLDER / "README.md").read_text()
    assert name in about and PRETRAINED[name].sha256 in about
    assert name_of(load_config(PRETRAINED[name].config).MODEL.WEIGHTS) == name
    assert {p.stem for p in FOLDER.glob("segic-*.safetensors")} == set(PRETRAINED)


@pytest.mark.parametrize("name", NAMES)
def test_all_of_it_is_loaded_by_name(name):
    predictor = InContextPredictor.from_pretrained(name, device="cpu", opts=RANDOM_BACKBONE)
    state, file = trainable_state_dict(predictor.model), load_file(weights_file(name))
    assert state.keys() == file.keys()
    for key, tensor in file.items():
        assert tensor.dtype == torch.float16 and torch.isfinite(tensor).all()
        assert torch.equal(state[key], tensor.float()), key
    # by the config alone as well
    cfg = load_config(PRETRAINED[name].config, ["MODEL.DEVICE", "cpu", *RANDOM_BACKBONE])
    again = trainable_state_dict(InContextPredictor(cfg).model)
    assert all(torch.equal(again[key], state[key]) for key in state)


def test_a_name_means_a_config_and_weights(monkeypatch):
    released = pretrained.Released("segic_region.yaml", "w.pth of example.org")
    monkeypatch.setitem(pretrained.RELEASED, "other", released)
    assert find_model("segic-demo") == ("segic_demo.yaml", "segic-demo")
    assert find_model("segic-demo", "own.pth") == ("segic_demo.yaml", "own.pth")
    assert find_model("other", "w.pth") == (get_config_file("segic_region.yaml"), "w.pth")
    with pytest.raises(ValueError, match="'other' do not ship: give as weights a file, w.pth of e"):
        InContextPredictor.from_pretrained("other")
    assert find_model("eval/davis17") == (get_config_file("eval/davis17.yaml"), None)


@pytest.mark.parametrize("name", sorted(pretrained.RELEASED))
def test_what_was_released_has_a_config(name):
    file = ROOT / "configs" / pretrained.RELEASED[name].config
    if not file.parent.is_dir():
        pytest.skip(f"no {file.parent.name} in this checkout")
    assert find_model(name, "w.pth") == (str(file), "w.pth")


def test_unknown_missing_and_damaged_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no pretrained decoder 'segic-huge'.*segic-demo"):
        InContextPredictor.from_pretrained("segic-huge")
    path = weights_file("segic-demo")
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match="'segic-demo' are missing from the package"):
        InContextPredictor.from_pretrained("segic-demo", device="cpu", opts=RANDOM_BACKBONE)
    copy = tmp_path / "segic-demo.safetensors"
    shutil.copy(path, copy)
    with copy.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    with pytest.raises(ValueError, match="segic-demo.safetensors is damaged: its SHA-256"):
        SegICCheckpointer(torch.nn.Linear(1, 1)).load("segic-demo")


def test_detectron2s_own_checkpointer_loads_it_without_a_word_of_the_backbone(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    cfg = load_config("segic_demo.yaml", ["MODEL.DEVICE", "cpu", *RANDOM_BACKBONE])
    assert cfg.MODEL.WEIGHTS == "segic://demo"
    model = build_model(cfg)
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    caplog.clear()
    with caplog.at_level("WARNING"):
        DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    assert not caplog.records
    for key, tensor in load_file(weights_file("segic-demo")).items():
        assert torch.equal(model.state_dict()[key], tensor.float()), key
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    (kept,) = tmp_path.iterdir()
    assert PathManager.get_local_path("segic://demo") == str(kept)
    assert PathManager.isfile("segic://demo") and not PathManager.exists("segic://huge")
    with pytest.raises(ValueError, match="no pretrained decoder 'segic-huge'.*segic-demo"):
        DetectionCheckpointer(model).load("segic://huge")
    kept.write_bytes(b"")  # whatever becomes of it
    DetectionCheckpointer(model).load("segic://demo")
    with pytest.raises(ValueError, match="segic://demo ships with the package and cannot be writ"):
        PathManager.open("segic://demo", "wb")
    assert torch.load(PathManager.open("segic://demo", "rb"), weights_only=True)["model"]
    monkeypatch.setenv("SEGIC_D2_CACHE", "/proc/none")  # it cannot be made
    DetectionCheckpointer(model).load("segic://demo")
    # a backbone that is there in part is no backbone: the rest is named
    name = next(iter(before))
    torch.save({"model": {f"encoder.backbone.{name}": before[name]}}, tmp_path / "part.pth")
    with caplog.at_level("WARNING"):
        DetectionCheckpointer(model).load(str(tmp_path / "part.pth"))
    assert "not found in the checkpoint" in caplog.text and "encoder.backbone" in caplog.text


def test_exported_weights_are_those_of_the_checkpoint(tmp_path, capsys):
    state = {"sem_seg_head.a": torch.randn(3, 4), "sem_seg_head.b": torch.ones(2)}
    frozen = {"backbone.w": torch.ones(5)}
    torch.save({"model": {**state, **frozen}, "iteration": 3}, tmp_path / "m.pth")
    tool.main([str(tmp_path / "m.pth"), str(tmp_path / "out.safetensors")])
    found = load_file(tmp_path / "out.safetensors")
    assert found.keys() == state.keys()
    assert all(torch.equal(found[k], state[k].half()) for k in state)
    assert "14 numbers" in capsys.readouterr().out
    torch.save({"model": {"sem_seg_head.a": torch.tensor([1e6])}}, tmp_path / "m.pth")
    with pytest.raises(SystemExit, match="sem_seg_head.a does not fit half precision"):
        tool.main([str(tmp_path / "m.pth"), str(tmp_path / "out.safetensors")])
    with pytest.raises(SystemExit, match="no checkpoint"):
        tool.main([str(tmp_path / "none.pth"), str(tmp_path / "out.safetensors")])


def test_the_average_of_a_checkpoint_is_exported_where_it_has_one(tmp_path):
    out, name = tmp_path / "out.safetensors", "sem_seg_head.neck.0.weight"
    opts = ("MODEL_EMA.ENABLED", True, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.MAX_ITER", 3)
    trainer, _ = train(tmp_path / "run", *opts)
    second = str(tmp_path / "run/model_0000001.pth")
    tool.main([second, str(out), "--average"])
    held = torch.load(second, weights_only=True)
    average = held["trainer"]["hooks"]["AverageHook"]["average"]
    found = load_file(out)
    assert found.keys() == trainable_state_dict(trainer.model).keys()
    assert torch.equal(found[name], average[name].half())
    assert not torch.equal(found[name], held["model"][name].half())
    train(tmp_path / "plain", "SOLVER.MAX_ITER", 1)
    with pytest.raises(SystemExit, match="no average; MODEL_EMA.ENABLED makes it"):
        tool.main([str(tmp_path / "plain/model_final.pth"), str(out), "--average"])


def test_a_context_of_the_decoder_alone_is_not_one_of_what_ships(tmp_path):
    opts = ("INPUT.CANVAS", 112, *RANDOM_BACKBONE)
    torch.manual_seed(0)  # of both backbones
    decoder = InContextPredictor("segic_demo_decoder.yaml", device="cpu", opts=opts)
    torch.manual_seed(0)
    shipped = InContextPredictor.from_pretrained(device="cpu", opts=opts)
    decoder.set_references([(picture(0), square())])
    decoder.save_context(tmp_path / "old.safetensors")
    told = "old.safetensors: .*another model: multiple: context None, model 14; regions: context N"
    with pytest.raises(ValueError, match=told):
        shipped.load_context(tmp_path / "old.safetensors")
    shipped.context = decoder.context  # as MODEL.SEGIC.CONTEXT holds one
    with pytest.raises(ValueError, match="takes contexts of 'cells', not of 'prototypes': make it"):
        shipped(picture(1))


@pytest.mark.skipif(not cache_path().is_file(), reason="the embedded weights are not prepared")
def test_one_coin_finds_the_coins():
    """The whole of it on a photograph: a decoder that does not fit its backbone finds nothing."""
    skimage = pytest.importorskip("skimage.data")
    picture = np.asarray(Image.open(Path(skimage.__file__).parent / "coins.png").convert("RGB"))
    mask = np.zeros(picture.shape[:2], bool)
    yy, xx = np.mgrid[: mask.shape[0], : mask.shape[1]]
    mask[(yy - 193) ** 2 + (xx - 213) ** 2 < 23.5**2] = True
    predictor = InContextPredictor.from_pretrained("segic-demo", device="cpu")
    predictor.set_references([(picture, mask, "coin")])
    found = predictor(picture).masks[0]
    assert found[mask].mean() > 0.8
    assert 0.1 < found.mean() < 0.5  # 24 coins cover a quarter to a third
