"""Whether the weights of MODEL.BACKBONE.WEIGHTS can be had, by source."""

import os

import pytest
import torch
from timm.models import get_pretrained_cfg

from segic_d2.modeling.backbone import embedded
from segic_d2.modeling.backbone.sources import check_backbone_weights, timm_hub_name
from segic_d2.utils import remote
from tests.tiny import tiny_config


def config(weights, *opts):
    return tiny_config("MODEL.BACKBONE.WEIGHTS", weights, *opts)


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(remote, "unreachable", lambda url: "no network")
    monkeypatch.setattr("segic_d2.modeling.backbone.sources.unreachable", remote.unreachable)


def test_an_empty_key_is_no_choice_and_random_is_one(tmp_path):
    with pytest.raises(ValueError, match="MODEL.BACKBONE.WEIGHTS is empty.*would be random.*'rand"):
        check_backbone_weights(config(""))
    check_backbone_weights(config("random"))
    with pytest.raises(FileNotFoundError, match="MODEL.BACKBONE.WEIGHTS: no file .*a.pth'"):
        check_backbone_weights(config(f"{tmp_path}/a.pth"))
    (tmp_path / "a.pth").touch()
    check_backbone_weights(config(f"{tmp_path}/a.pth"))


def test_timms_hub_is_asked_for_what_its_cache_lacks(no_network):
    small = ("MODEL.TIMM.NAME", "test_vit")
    with pytest.raises(FileNotFoundError) as error:
        check_backbone_weights(config("timm", *small))
    message = str(error.value)
    assert message.startswith(
        "MODEL.BACKBONE.WEIGHTS 'timm': could not fetch test_vit from its hub"
    )
    assert message.endswith(
        "no network); place the file on this machine and set MODEL.BACKBONE.WEIGHTS to its path"
    )
    with pytest.raises(ValueError, match="'timm:nope': timm has no such weights.*r160_in1k"):
        check_backbone_weights(config("timm:nope", *small))


def test_timms_files_are_looked_for_where_timm_keeps_them(no_network, tmp_path, monkeypatch):
    """In the cache of the hub, or of torch.hub for a model that has no place on the hub."""
    asked = []
    monkeypatch.setattr(
        "segic_d2.modeling.backbone.sources.missing_on_hub", lambda *args: asked.append(args) or ""
    )
    assert timm_hub_name("test_vit", "r160_in1k") == "test_vit.r160_in1k"
    assert asked == [("timm/test_vit.r160_in1k", ("model.safetensors", "pytorch_model.bin"))]
    found = get_pretrained_cfg("test_vit")
    monkeypatch.setattr("segic_d2.modeling.backbone.sources.get_pretrained_cfg", lambda name: found)
    monkeypatch.setattr(found, "hf_hub_id", None)
    monkeypatch.setattr(found, "url", "https://example.org/vit.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no network"):
        timm_hub_name("test_vit")
    os.mkdir(tmp_path / "checkpoints")
    (tmp_path / "checkpoints/vit.pth").touch()
    assert timm_hub_name("test_vit") == "test_vit"


def test_the_embedded_weights_and_a_diffusion_model_are_looked_for(
    no_network, tmp_path, monkeypatch
):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=embedded.FILE_NAME):
        check_backbone_weights(config("embedded"))
    pytest.importorskip("diffusers", reason="pip install 'segic_d2[diffusion]'")
    diffusion = ("MODEL.BACKBONE.NAME", "build_diffusion_backbone", "MODEL.DIFFUSION.NAME")
    with pytest.raises(FileNotFoundError, match="MODEL.DIFFUSION.NAME 'a/b': .*no network.*folder"):
        check_backbone_weights(config("", *diffusion, "a/b"))
    check_backbone_weights(config("", *diffusion, str(tmp_path)))
