"""Every config is parsed, builds its model, and trains one step with a stand-in backbone."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from segic_d2.config import get_config_file, load_config
from segic_d2.modeling.segic import SegIC
from tests.tiny import TinyBackbone, tiny_episode

ROOT = Path(__file__).resolve().parents[1] / "configs"
CONFIGS = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*.yaml"))


def on_meta(config, *opts):
    cfg = load_config(str(ROOT / config), ["MODEL.DEVICE", "meta", *opts])
    with torch.device("meta"):
        return cfg, build_model(cfg)


@pytest.mark.parametrize("config", CONFIGS)
def test_builds_and_takes_a_step(config, monkeypatch):
    cfg, model = on_meta(config)
    name = model.in_feature
    shape = model.backbone.output_shape()[name]
    assert all(not p.requires_grad for p in model.backbone.parameters())
    stand_in = TinyBackbone(shape.channels, shape.stride, name)
    monkeypatch.setattr("segic_d2.modeling.segic.build_backbone", lambda cfg: stand_in)
    opts = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.WEIGHTS", ""]
    opts += ["INPUT.CANVAS", shape.stride * 8, "MODEL.SEGIC.LOSS.NUM_POINTS", 64]
    torch.manual_seed(0)
    model = build_model(load_config(str(ROOT / config), opts))
    if model.text_encoder is not None:
        width = cfg.MODEL.SEGIC.TEXT.DIM
        monkeypatch.setattr(
            model.text_encoder, "encode", lambda texts: torch.ones(len(texts), width)
        )
    assert isinstance(model, SegIC)
    losses = model.train()([tiny_episode(i, 1 + i, size=(98, 84), training=True) for i in (0, 1)])
    sum(losses.values()).backward()
    gradient = model.sem_seg_head.neck[0].weight.grad
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0


def test_paper_models_have_the_papers_size():
    for letter, total in (("B", 5_246_436), ("L", 5_377_508), ("G", 5_639_652)):
        cfg, model = on_meta(f"segic_dinov2_{letter}.yaml")
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == total
        assert cfg.INPUT.CANVAS == 896 and model.sem_seg_head.grid == 64


def test_a_missing_config_is_named():
    with pytest.raises(FileNotFoundError, match="no config 'nowhere.yaml'"):
        get_config_file("nowhere.yaml")
