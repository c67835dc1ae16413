"""All that a run lacks is named, one line each, in seconds and before anything starts."""

import time

import pytest

from segic_d2.config.load import load_config
from segic_d2.engine import find_missing
from segic_d2.engine.requirements import check_weights
from tests.data import paper_data
from tests.tiny import tiny_config


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
    opts = ("DATASETS.TRAIN", ("shapes_train_coco",), "DATASETS.TEST", ("shapes_novel_coco",))
    opts += ("MODEL.BACKBONE.WEIGHTS", "random", "MODEL.WEIGHTS")
    assert find_missing(tiny_config(*opts, "segic-demo")) == []
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
