"""All that a run lacks is named, one line each, in seconds and before anything starts."""

import re
import time

import pytest
import torch
from detectron2.modeling import build_backbone

from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.config.load import load_config
from segic_d2.engine import find_missing
from segic_d2.engine.requirements import check_weights
from tests.data import paper_data
from tests.tiny import prototype_context, tiny_config

QUIET = ("DATASETS.TRAIN", ("shapes_train_coco",), "DATASETS.TEST", ("shapes_novel_coco",))
QUIET += ("MODEL.BACKBONE.WEIGHTS", "random")


def test_the_first_command_says_all_that_it_lacks(tmp_path, monkeypatch):
    pytest.importorskip("open_clip", reason="pip install 'segic_d2[text]'")
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    started = time.perf_counter()
    with paper_data.registered(tmp_path):
        weights, texts, data = find_missing(load_config("segic_R.yaml"))
    assert time.perf_counter() - started < 5
    assert weights.startswith("MODEL.BACKBONE.WEIGHTS: 'detectron2://ImageNetPretrained/torchvis")
    assert weights.endswith(
        "place the file on this machine and set MODEL.BACKBONE.WEIGHTS to its path"
    )
    assert texts.startswith("MODEL.SEGIC.TEXT.WEIGHTS 'openai'") and "META False" in texts
    assert "'coco_2014_train' (DATASETS.TRAIN)" in data and "'lvis_v1_train'" in data
    assert not any("\n" in line for line in (weights, texts, data))


def test_what_is_there_is_not_named(tmp_path):
    opts = (*QUIET, "MODEL.WEIGHTS")
    for name in ("segic-demo", "segic://demo"):
        assert find_missing(tiny_config(*opts, name)) == []
    gone = tiny_config(*opts, str(tmp_path / "gone.pth"))
    assert find_missing(gone) == [f"checkpoint not found (MODEL.WEIGHTS): {tmp_path}/gone.pth"]
    assert find_missing(gone, resume=True) == []
    (tmp_path / "gone.pth").touch()
    check_weights(gone)


def test_a_random_backbone_is_named_and_a_model_without_checks_has_none():
    opts = ("DATASETS.TRAIN", ("nothing_train",), "DATASETS.TEST", ("shapes_novel_coco",))
    weights, data = find_missing(tiny_config(*opts))
    assert "frozen backbone would be random" in weights and "'nothing_train'" in data
    assert len(find_missing(tiny_config(*opts, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"))) == 1
    assert (
        find_missing(tiny_config(*opts, "MODEL.BACKBONE.WEIGHTS", "random"), training=False) == []
    )


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("MODEL.META_ARCHITECTURE", "SegIk", "similar: SegIC"),
        ("MODEL.BACKBONE.NAME", "build_tim_backbone", "similar: build_timm_backbone, "),
        ("MODEL.SEM_SEG_HEAD.NAME", "InContextMaskHed", "similar: InContextMaskHead"),
        ("MODEL.SEGIC.TEXT.NAME", "clip", "similar: open_clip"),
        ("MODEL.SEGIC.TEXT.NAME", "zzz", "there are "),
    ],
)
def test_a_misspelt_name_is_one_line_with_the_names_there_are(key, value, told):
    (line,) = find_missing(tiny_config(*QUIET, "MODEL.SEGIC.META", "TEXT" in key, key, value))
    assert line.startswith(f"{key} {value!r} is not registered; {told}")


def test_a_held_context_must_be_there_and_be_one(tmp_path):
    files = [str(tmp_path / f"{x}.safetensors") for x in ("gone", "wrong", "good")]
    gone, wrong, good = files
    (tmp_path / "wrong.safetensors").write_bytes(b"nothing")
    some = torch.ones(1, 1, 2)
    prototype_context(some, some + 1, torch.ones(1, 1).bool(), None, [0], ["a"]).save(good)
    asked = [find_missing(tiny_config(*QUIET, "MODEL.SEGIC.CONTEXT", x)) for x in files]
    assert asked[0] == [f"MODEL.SEGIC.CONTEXT: context file not found: {gone}"]
    assert [x.startswith(f"MODEL.SEGIC.CONTEXT: {wrong} is not") for x in asked[1]] == [True]
    assert asked[2] == []


@pytest.mark.parametrize(
    "weights, told",
    [
        ("segic://foo", "no pretrained decoder 'segic-foo'; there are ['segic-demo']"),
        ("detectron2://nowhere/x.pth", "MODEL.WEIGHTS: 'detectron2://nowhere/x.pth' cannot be fe"),
        ("foo://x.pth", "MODEL.WEIGHTS: 'foo://x.pth' cannot be fetched (no such file)"),
        ("detectron2://nowhere/x.pkl", "cannot read the checkpoint detectron2://nowhere/x.pkl: "),
    ],
)
def test_weights_of_elsewhere_are_named_before_and_when_they_are_loaded(
    weights, told, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    (line,) = find_missing(tiny_config(*QUIET, "MODEL.WEIGHTS", weights))
    assert line.startswith(told)
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(told)):
        SegICCheckpointer(torch.nn.Linear(1, 1)).load(weights)


def test_weights_of_elsewhere_that_were_fetched_are_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    kept = tmp_path / "detectron2/mine/x.pth"  # where PathManager keeps what it downloaded
    kept.parent.mkdir(parents=True)
    torch.manual_seed(0)
    saved, model = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    torch.save({"model": saved.state_dict()}, kept)
    check_weights(tiny_config("MODEL.WEIGHTS", "detectron2://mine/x.pth"))
    SegICCheckpointer(model).load("detectron2://mine/x.pth")
    assert torch.equal(model.weight, saved.weight)


def test_a_file_of_the_backbone_is_read(tmp_path):
    path, good = tmp_path / "a.pth", tmp_path / "good.pth"
    for content, told in ((b"nothing", "is damaged"), ({"epoch": 3}, "holds no tensors")):
        torch.save(content, path) if isinstance(content, dict) else path.write_bytes(content)
        (line,) = find_missing(tiny_config(*QUIET, "MODEL.BACKBONE.WEIGHTS", str(path)))
        assert line.startswith(f"MODEL.BACKBONE.WEIGHTS: {path}") and told in line
    torch.save({"a": torch.ones(2)}, path)
    for name in (("timm", "MODEL.TIMM.NAME", "test_vit", "INPUT.CANVAS", 64), ("resnet",)):
        builder = ("MODEL.BACKBONE.NAME", f"build_{name[0]}_backbone", *name[1:])
        (line,) = find_missing(tiny_config(*QUIET, "MODEL.BACKBONE.WEIGHTS", str(path), *builder))
        assert line.startswith(f"MODEL.BACKBONE.WEIGHTS '{path}' does not fit the backbone: ")
        fitting = tiny_config(*QUIET, "MODEL.BACKBONE.WEIGHTS", str(good), *builder)
        backbone = build_backbone(tiny_config(*QUIET, *builder))
        torch.save(getattr(backbone, "model", backbone).state_dict(), good)
        assert find_missing(fitting) == []
    assert find_missing(tiny_config(*QUIET, "MODEL.BACKBONE.WEIGHTS", str(path))) == []


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("MODEL.TIMM.NAME", "test_vitt", "MODEL.TIMM.NAME 'test_vitt' is no model of timm"),
        ("MODEL.TIMM.BLOCKS", (99,), r"MODEL.TIMM.BLOCKS (99,): 'test_vit' has 6 blocks"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_named(key, value, told):
    timm = ("MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_vit")
    (line,) = find_missing(tiny_config(*QUIET, *timm, "INPUT.CANVAS", 64, key, value))
    assert line.startswith(told)
