import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone, build_model

import segic_d2
from segic_d2.config.load import load_config
from segic_d2.modeling.backbone import TimmBackbone
from segic_d2.modeling.backbone.timm_backbone import timm_statistics
from tests.tiny import SEGIC

TINY = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_vit"]
TINY += ["MODEL.DEVICE", "cpu", "INPUT.CANVAS", 224]
BUILDERS = [f"build_{x}_backbone" for x in ("timm", "timm_fpn", "retinanet_timm_fpn")]
HALF = [127.5, 127.5, 127.5]


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if "pixel statistics" in r.getMessage()]


@pytest.mark.parametrize("model", ["SemanticSegmentor", "GeneralizedRCNN", "not yet registered"])
def test_other_models_are_told_once_which_lines_to_set(model, caplog):
    cfg = load_config("", [*TINY, "MODEL.META_ARCHITECTURE", model])
    build_backbone(cfg)
    (said,) = warnings(caplog)
    assert model in said and "set_pixel_statistics(cfg)" in said
    for line in (f"MODEL.PIXEL_MEAN {HALF}", f"MODEL.PIXEL_STD {HALF}", "INPUT.FORMAT RGB"):
        assert line in said
    caplog.clear()
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT = HALF, HALF, "RGB"
    build_backbone(cfg)
    assert not warnings(caplog)


def test_a_backbone_that_is_meant_to_be_random_was_trained_with_none(caplog):
    build_backbone(load_config("", [*TINY, "MODEL.BACKBONE.WEIGHTS", "random"]))
    assert not warnings(caplog)


def test_the_right_numbers_in_the_order_bgr_are_wrong(caplog):
    same = ["MODEL.PIXEL_MEAN", HALF, "MODEL.PIXEL_STD", HALF, "INPUT.FORMAT", "BGR"]
    build_backbone(load_config("", [*TINY, *same]))
    assert len(warnings(caplog)) == 1


def test_our_models_ask_the_backbone_and_are_told_nothing(caplog):
    small = ["MODEL.SEGIC.META", False, "MODEL.SEGIC.DECODER.WIDTH", 32]
    model = build_model(load_config("", [*TINY, *SEGIC, *small]))
    assert model.input.mean == tuple(HALF)
    assert not warnings(caplog)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("name", ["test_vit", "vit_small_patch14_dinov2", "test_resnet"])
def test_they_are_set_by_name_without_a_model(builder, name, caplog, monkeypatch):
    with torch.device("meta"):
        wanted = TimmBackbone(name=name, blocks=(0,))
    cfg = load_config("", [*TINY, "MODEL.TIMM.NAME", name, "MODEL.BACKBONE.NAME", builder])
    with monkeypatch.context() as patch:
        patch.setattr("timm.create_model", None)
        segic_d2.set_pixel_statistics(cfg)
        once = cfg.dump()
        segic_d2.set_pixel_statistics(cfg)
    assert cfg.dump() == once
    assert pytest.approx(wanted.pixel_mean, abs=1e-3) == cfg.MODEL.PIXEL_MEAN
    assert pytest.approx(wanted.pixel_std, abs=1e-3) == cfg.MODEL.PIXEL_STD
    assert cfg.INPUT.FORMAT == "RGB"
    if builder == "build_timm_backbone":
        with torch.device("meta"):
            build_backbone(cfg)
        assert not warnings(caplog)


@pytest.mark.parametrize(
    "name", ["vit_large_patch14_clip_224.openai", "convnext_base", "vit_small_patch16_dinov3"]
)
def test_statistics_of_a_name_are_those_of_its_backbone(name):
    with torch.device("meta"):
        backbone = TimmBackbone(name=name, blocks=(0,), canvas=224)
    assert timm_statistics(name) == (backbone.pixel_mean, backbone.pixel_std)


def test_the_diffusion_model_and_backbones_that_are_not_ours():
    cfg = load_config("", ["MODEL.BACKBONE.NAME", "build_diffusion_backbone"])
    segic_d2.set_pixel_statistics(cfg)
    assert cfg.MODEL.PIXEL_MEAN == cfg.MODEL.PIXEL_STD == HALF and cfg.INPUT.FORMAT == "RGB"
    with pytest.raises(ValueError, match="MODEL.BACKBONE.NAME 'build_resnet_backbone'.*by hand"):
        segic_d2.set_pixel_statistics(get_cfg())
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.TIMM.NAME = "build_timm_backbone", "test_vitt"
    with pytest.raises(ValueError, match="MODEL.TIMM.NAME 'test_vitt'"):
        segic_d2.set_pixel_statistics(cfg)
