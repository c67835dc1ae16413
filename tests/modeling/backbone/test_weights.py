import logging
import os
import pickle
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import timm
import torch
import torchvision
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from detectron2.utils.file_io import Detectron2Handler
from safetensors.torch import save_file

from segic_d2.checkpoint.files import fetch
from segic_d2.modeling.backbone import TimmBackbone, load_backbone_weights
from segic_d2.utils import remote


def _resnet(depth=18):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False  # as torchvision's
    return build_backbone(cfg).eval()


def _random_statistics(model):
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model


@pytest.fixture(scope="module")
def torchvision18():
    torch.manual_seed(0)
    return _random_statistics(torchvision.models.resnet18()).eval()


def test_torchvision_resnet50_gives_the_same_features(tmp_path):
    torch.manual_seed(0)
    reference = _random_statistics(torchvision.models.resnet50()).eval()
    torch.save(reference.state_dict(), tmp_path / "resnet50.pth")
    backbone = _resnet(50)
    load_backbone_weights(backbone, str(tmp_path / "resnet50.pth"))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        y = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        y = reference.layer3(reference.layer2(reference.layer1(y)))
        out = backbone(x)["res4"]
    torch.testing.assert_close(out / y.std(), y / y.std(), atol=1e-4, rtol=1e-4)


def test_whole_detector_with_prefix(tmp_path):
    torch.manual_seed(0)
    source, backbone = _random_statistics(_resnet()), _resnet()
    state = {f"backbone.bottom_up.{k}": v for k, v in source.state_dict().items()}
    state["roi_heads.box_head.fc1.weight"] = torch.zeros(2, 2)
    torch.save({"model": state, "iteration": 7}, tmp_path / "detector.pth")
    load_backbone_weights(backbone, str(tmp_path / "detector.pth"))
    for name, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value), name


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """A server of a folder in the place of Detectron2's; what is fetched is kept in "cache"."""
    (tmp_path / "served/detectron2").mkdir(parents=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/detectron2/"
    monkeypatch.setattr(Detectron2Handler, "S3_DETECTRON2_PREFIX", url)
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    for name in ("SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield SimpleNamespace(folder=tmp_path / "served/detectron2", server=server, url=url)
    server.shutdown()
    server.server_close()


def test_paths_of_detectron2_are_fetched_once(zoo):
    """As MODEL.BACKBONE.WEIGHTS, a name of the zoo and a URL; a copy serves without network."""
    torch.manual_seed(0)
    source, backbone = _resnet(), _resnet()
    _zoo_file(zoo.folder / "R-18.pkl", source.state_dict(), __author__="torchvision")
    load_backbone_weights(backbone, "detectron2://R-18.pkl")
    weight = "res4.0.conv1.weight"
    assert torch.equal(backbone.state_dict()[weight], source.state_dict()[weight])
    zoo.server.shutdown()
    zoo.server.server_close()
    kept = fetch("detectron2://R-18.pkl")
    assert kept.read_bytes() == (zoo.folder / "R-18.pkl").read_bytes()
    assert fetch(f"{zoo.url}R-18.pkl") == kept
    with pytest.raises(FileNotFoundError, match="R-34.pkl' cannot be fetched .*refused"):
        fetch("detectron2://R-34.pkl")


@pytest.mark.parametrize(
    "path, reason",
    [
        ("detectron2://gone.pkl", "HTTPError: HTTP Error 404"),
        ("catalog://nothing", "RuntimeError: model not present in the catalog"),
        ("nowhere://a.pkl", "no such file"),
    ],
)
def test_what_cannot_be_fetched_is_one_line_with_the_way_out(zoo, path, reason):
    with pytest.raises(FileNotFoundError) as error:
        load_backbone_weights(_resnet(), path)
    message = str(error.value)
    assert message.startswith(f"MODEL.BACKBONE.WEIGHTS: {path!r} cannot be fetched ({reason}")
    assert message.endswith("on this machine and set MODEL.BACKBONE.WEIGHTS to its path")
    assert "\n" not in message


def _zoo_file(path, state, **extra):
    arrays = {k: v.numpy() for k, v in state.items() if "running_" not in k}
    with open(path, "wb") as file:
        pickle.dump({"model": arrays, **extra} if extra else arrays, file)
    return str(path)


def test_zoo_pickle_with_folded_statistics(tmp_path):
    torch.manual_seed(0)
    source, backbone = _resnet(), _random_statistics(_resnet())
    path = _zoo_file(tmp_path / "R-18.pkl", source.state_dict(), __author__="someone")
    load_backbone_weights(backbone, path)
    state = backbone.state_dict()
    assert torch.equal(state["res3.1.conv2.weight"], source.state_dict()["res3.1.conv2.weight"])
    assert state["stem.conv1.norm.running_mean"].abs().max() == 0
    assert (state["res4.0.conv1.norm.running_var"] == 1).all()


def test_caffe2_names(tmp_path):
    torch.manual_seed(0)
    source, backbone = _resnet(50), _resnet(50)
    state = {}
    for name, value in source.state_dict().items():
        name = name.replace("stem.conv1.norm", "res_conv1_bn").replace("stem.conv1", "conv1")
        name = name.replace("shortcut", "branch1")
        for i, letter in enumerate("abc", 1):
            name = name.replace(f"0.conv{i}", f"0.branch2{letter}")
            for block in range(1, 6):
                name = name.replace(f"{block}.conv{i}", f"{block}.branch2{letter}")
        name = name.replace(".norm", "_bn").replace("bn.weight", "bn_s").replace("bn.bias", "bn_b")
        state[name.replace(".weight", "_w").replace(".", "_")] = value
    assert {"conv1_w", "res_conv1_bn_s", "res3_2_branch2b_bn_b", "res4_0_branch1_w"} <= set(state)
    load_backbone_weights(backbone, _zoo_file(tmp_path / "R-50.pkl", state))
    for name, value in source.state_dict().items():
        if "running_" not in name:
            assert torch.equal(backbone.state_dict()[name], value), name


def test_timm_position_embedding_of_another_size(tmp_path):
    torch.manual_seed(0)
    larger = timm.create_model("test_vit", img_size=320)
    save_file(
        {f"module.{k}": v for k, v in larger.state_dict().items()}, tmp_path / "a.safetensors"
    )
    backbone = TimmBackbone(name="test_vit", blocks=(2,))
    load_backbone_weights(backbone, str(tmp_path / "a.safetensors"))
    expected = timm.layers.resample_abs_pos_embed(larger.pos_embed.detach(), (10, 10))
    torch.testing.assert_close(backbone.model.pos_embed.detach(), expected)
    weight = "blocks.2.mlp.fc1.weight"
    assert torch.equal(backbone.model.state_dict()[weight], larger.state_dict()[weight])


def test_timm_hub(monkeypatch):
    backbone = TimmBackbone(name="test_vit", blocks=(1,))
    source, asked = timm.create_model("test_vit", num_classes=0), []

    def create_model(name, pretrained=False, **kwargs):
        asked.append((name, pretrained))
        return source

    monkeypatch.setattr(timm, "create_model", create_model)
    monkeypatch.setattr(remote, "unreachable", lambda url: "")
    load_backbone_weights(backbone, "timm")
    load_backbone_weights(backbone, "timm:r160_in1k")
    assert asked == [("test_vit", True), ("test_vit.r160_in1k", True)]
    assert torch.equal(backbone.model.pos_embed, source.pos_embed)
    with pytest.raises(ValueError, match="timm:nope.*r160_in1k"):
        load_backbone_weights(backbone, "timm:nope")

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", no_network)
    with pytest.raises(FileNotFoundError, match="no route to host.*MODEL.BACKBONE.WEIGHTS"):
        load_backbone_weights(backbone, "timm")


def test_empty_warns(caplog):
    with caplog.at_level(logging.WARNING):
        load_backbone_weights(TimmBackbone(name="test_vit", blocks=(0,)), "")
    assert "MODEL.BACKBONE.WEIGHTS" in caplog.text and "random" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):  # unless that is meant
        load_backbone_weights(TimmBackbone(name="test_vit", blocks=(0,)), "random")
    assert not caplog.text


def test_absent_tensor_or_other_shape_is_listed(tmp_path, torchvision18):
    state = dict(torchvision18.state_dict())
    del state["layer2.1.conv1.weight"]
    state["conv1.weight"] = torch.zeros(64, 3, 5, 5)
    torch.save(state, tmp_path / "bad.pth")
    backbone = _resnet()
    before = backbone.res2[0].conv1.weight.clone()
    with pytest.raises(ValueError) as error:
        load_backbone_weights(backbone, str(tmp_path / "bad.pth"))
    assert "res3.1.conv1.weight (absent)" in str(error.value)
    assert "stem.conv1.weight ((64, 3, 5, 5), needed (64, 3, 7, 7))" in str(error.value)
    assert torch.equal(backbone.res2[0].conv1.weight, before)  # nothing was loaded


def test_missing_statistics_are_not_invented(tmp_path, torchvision18):
    state = dict(torchvision18.state_dict())
    del state["layer1.0.bn1.running_var"]
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="res2.0.conv1.norm.running_var .absent"):
        load_backbone_weights(_resnet(), str(tmp_path / "bad.pth"))


class _Evil:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_in_a_file_is_never_run(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"evil{suffix}"
    if suffix == ".pth":
        torch.save({"model": _Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": _Evil()}))
    with pytest.raises(ValueError, match="evil.*holds more than tensors"):
        load_backbone_weights(_resnet(), str(path))
    assert not (tmp_path / "PWNED").exists()


def test_files_that_cannot_be_read(tmp_path):
    backbone = TimmBackbone(name="test_vit", blocks=(0,))
    with pytest.raises(FileNotFoundError, match="MODEL.BACKBONE.WEIGHTS.*nowhere.pth"):
        load_backbone_weights(backbone, "nowhere.pth")
    for name in ("a.onnx", "a.safetensors", "a.pth", "a.pkl"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ValueError, match=f"MODEL.BACKBONE.WEIGHTS.*{name}"):
            load_backbone_weights(backbone, str(tmp_path / name))
    with pytest.raises(ValueError, match="needs a timm backbone, not ResNet"):
        load_backbone_weights(_resnet(), "timm")
