import pytest
import timm
import torch
from detectron2.modeling import build_backbone

from segic_d2.config.load import load_config
from segic_d2.modeling.backbone import TimmBackbone

IMAGENET = [123.675, 116.28, 103.53]
CLIP = [122.7709383, 116.7460125, 104.09373615]


@pytest.mark.parametrize(
    "name, blocks, norm, channels, stride, mean",
    [
        ("vit_small_patch14_dinov2", (-1,), True, 384, 14, IMAGENET),
        ("vit_base_patch14_dinov2.lvd142m", (7, 9), True, 1536, 14, IMAGENET),
        ("vit_large_patch14_dinov2", (-1,), True, 1024, 14, IMAGENET),
        ("vit_giant_patch14_dinov2", (-1,), True, 1536, 14, IMAGENET),
        ("vit_small_patch14_reg4_dinov2", (-1,), True, 384, 14, IMAGENET),
        ("vit_giant_patch14_reg4_dinov2", (-1,), True, 1536, 14, IMAGENET),
        ("vit_small_patch16_dinov3", (-1,), True, 384, 16, IMAGENET),
        ("vit_base_patch16_224.dino", (-1,), True, 768, 16, IMAGENET),
        ("samvit_base_patch16", (-1,), False, 768, 16, IMAGENET),
        ("samvit_base_patch16", (-1,), True, 256, 16, IMAGENET),  # its norm is SAM's neck
        ("vit_large_patch14_clip_224.openai", (-1,), False, 1024, 14, CLIP),
        ("vit_base_patch16_224.mae", (-1,), True, 768, 16, IMAGENET),
        ("convnext_base", (2,), True, 512, 16, IMAGENET),
        ("resnet50", (3,), True, 1024, 16, IMAGENET),
        ("swin_tiny_patch4_window7_224", (2,), False, 384, 16, IMAGENET),
    ],
)
def test_names_on_meta(name, blocks, norm, channels, stride, mean):
    """Each family builds without memory and takes a size that it was not trained at."""
    with torch.device("meta"):
        backbone = TimmBackbone(name=name, blocks=blocks, norm=norm, canvas=stride * 14)
        out = backbone(torch.zeros(2, 3, stride * 6, stride * 10))
    shape = backbone.output_shape()["feat"]
    assert (shape.channels, shape.stride) == (channels, stride)
    assert out["feat"].shape == (2, channels, 6, 10)
    assert backbone.pixel_mean == pytest.approx(mean)
    assert all(p.is_meta for p in backbone.parameters())


def test_registry_and_config():
    opts = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_vit"]
    cfg = load_config("", opts + ["MODEL.TIMM.BLOCKS", (1, -2), "INPUT.CANVAS", 96])
    backbone = build_backbone(cfg)
    assert isinstance(backbone, TimmBackbone)
    assert backbone.tap == "test_vit/1+4/norm"
    assert backbone.size_divisibility == 16
    assert backbone.output_shape()["feat"].channels == 2 * 64


def _full_model(name, backbone):
    """timm's own model, unpruned, with the weights of ``backbone`` where they were kept."""
    full = timm.create_model(name, num_classes=0).eval()
    full.load_state_dict(backbone.model.state_dict(), strict=False)
    return full


def test_final_norm_is_forward_features():
    torch.manual_seed(0)
    backbone = TimmBackbone(name="test_vit")
    x = torch.randn(2, 3, 160, 160)
    with torch.no_grad():
        tokens = _full_model("test_vit", backbone).forward_features(x)[:, 1:]
    expected = tokens.transpose(1, 2).reshape(2, 64, 10, 10)
    torch.testing.assert_close(backbone(x)["feat"], expected)


def test_middle_blocks_are_concatenated_and_later_ones_dropped():
    torch.manual_seed(0)
    backbone = TimmBackbone(name="test_vit", blocks=(3, 1), norm=False)
    assert len(backbone.model.blocks) == 4
    full, taps = _full_model("test_vit", backbone), []
    for i in (1, 3):
        full.blocks[i].register_forward_hook(lambda m, i, out: taps.append(out[:, 1:]))
    x = torch.randn(1, 3, 160, 160)
    with torch.no_grad():
        full(x)
    expected = torch.cat(taps, dim=2).transpose(1, 2).reshape(1, 128, 10, 10)
    torch.testing.assert_close(backbone(x)["feat"], expected)


def test_other_size_resamples_the_position_embedding():
    torch.manual_seed(0)
    backbone = TimmBackbone(name="test_vit", blocks=(0,))
    resized = timm.create_model("test_vit", num_classes=0, img_size=(96, 224)).eval()
    state = backbone.model.state_dict()
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], (6, 14))
    resized.load_state_dict(state, strict=False)
    x = torch.randn(1, 3, 96, 224)
    with torch.no_grad():
        expected = resized.forward_intermediates(
            x, indices=[0], norm=True, intermediates_only=True
        )[0]
    torch.testing.assert_close(backbone(x)["feat"], expected)


def test_convolutional_stage():
    torch.manual_seed(0)
    backbone = TimmBackbone(name="test_resnet", blocks=(3,))
    full, taps = _full_model("test_resnet", backbone), []
    full.layer3.register_forward_hook(lambda m, i, out: taps.append(out))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        full(x)
    assert backbone.output_shape()["feat"].stride == 16
    torch.testing.assert_close(backbone(x)["feat"], taps[0])


def test_frozen_in_eval_and_without_autograd():
    backbone = TimmBackbone(name="test_resnet", blocks=(2,))
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    torch.nn.Sequential(backbone).train()
    x = torch.randn(2, 3, 32, 32, requires_grad=True)
    assert not backbone(x)["feat"].requires_grad
    assert not any(m.training for m in backbone.modules())
    assert not any(p.requires_grad for p in backbone.parameters())
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]), key  # batch statistics above all


def test_model_built_for_one_size_is_built_for_the_canvas():
    with torch.device("meta"):
        backbone = TimmBackbone(name="beit_base_patch16_224", canvas=64, depth=1)
        assert backbone(torch.zeros(1, 3, 64, 64))["feat"].shape == (1, 768, 4, 4)
        with pytest.raises(ValueError, match=r"beit_base_patch16_224.*96"):
            backbone(torch.zeros(1, 3, 96, 96))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (
            {"name": "vit_smal_patch14_dino2"},
            "MODEL.TIMM.NAME.*similar.*vit_small_patch14_dinov2",
        ),
        ({"name": "vit_small_patch14_dinov2.foo"}, "no pretrained tag 'foo'.*lvd142m"),
        ({"name": "test_vit", "blocks": (6,)}, r"MODEL.TIMM.BLOCKS \(6,\).*6 blocks.*-6\.\.5"),
        ({"name": "test_vit", "blocks": ()}, "one or more"),
        ({"name": "test_vit", "blocks": (5, -1)}, "twice"),
        ({"name": "test_resnet", "blocks": (2, 3)}, r"different strides \[8, 16\]"),
        ({"name": "test_vit", "canvas": 100}, "INPUT.CANVAS 100 .*stride 16"),
        ({"name": "hiera_tiny_224", "norm": True}, "MODEL.TIMM.NORM True"),
    ],
)
def test_bad_config(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**kwargs)


def test_bad_input_side():
    backbone = TimmBackbone(name="test_vit", blocks=(0,))
    with pytest.raises(ValueError, match="input width 100 .*stride 16"):
        backbone(torch.zeros(1, 3, 96, 100))


def test_one_that_is_not_frozen_trains():
    torch.manual_seed(0)
    backbone = TimmBackbone(name="test_resnet", blocks=(2,), frozen=False)
    assert backbone.train().model.training and not backbone.frozen
    before = backbone.model.layer1[0].bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 32, 32))["feat"].square().mean().backward()
    assert backbone.model.conv1[0].weight.grad.abs().sum() > 0
    assert not torch.equal(backbone.model.layer1[0].bn1.running_mean, before)
    assert not backbone.eval().model.training


def test_taps_are_maps_of_their_own():
    torch.manual_seed(0)
    names = "block3", "block1"
    backbone = TimmBackbone(name="test_vit", out_features=names, blocks=(7,))  # blocks have no say
    joined = TimmBackbone(name="test_vit", blocks=(1, 3))
    joined.model.load_state_dict(backbone.model.state_dict())
    x = torch.randn(1, 3, 64, 96)
    out = backbone(x)
    assert list(out) == list(backbone.output_shape()) == list(names)
    assert torch.equal(torch.cat([out["block1"], out["block3"]], 1), joined(x)["feat"])
    assert all(s.stride == 16 and s.channels == 64 for s in backbone.output_shape().values())


def test_stages_have_strides_of_their_own():
    backbone = TimmBackbone(name="test_resnet", out_features=("stage1", "stage2", "stage4"))
    shapes, out = backbone.output_shape(), backbone(torch.randn(1, 3, 64, 96))
    assert {n: s.stride for n, s in shapes.items()} == {"stage1": 4, "stage2": 8, "stage4": 32}
    assert backbone.size_divisibility == backbone.stride == 32
    for name, shape in shapes.items():
        assert out[name].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)


def test_the_stride_of_a_key():
    torch.manual_seed(0)
    options = {"name": "vit_small_patch14_dinov2", "depth": 1, "blocks": (0,)}
    own, backbone = TimmBackbone(**options), TimmBackbone(**options, stride=16, canvas=224)
    backbone.model.load_state_dict(own.model.state_dict())
    assert backbone.output_shape()["feat"].stride == backbone.size_divisibility == 16
    x = torch.randn(1, 3, 224, 224)
    expected = own(x)["feat"]
    out = backbone(x)["feat"]
    assert expected.shape[-2:] == (16, 16) and out.shape[-2:] == (14, 14)
    # the centre of new cell 3 is at pixel 56, where old cells 3 and 4 meet
    torch.testing.assert_close(out[0, :, 3, 3], expected[0, :, 3:5, 3:5].mean((1, 2)))
    assert backbone.tap == own.tap + "/stride16"
    assert TimmBackbone(name="test_vit", stride=16).tap == TimmBackbone(name="test_vit").tap


def test_a_model_built_for_one_size_takes_the_padded_canvas():
    with torch.device("meta"):
        backbone = TimmBackbone(
            name="beit_base_patch16_224", canvas=32, depth=1, stride=32, blocks=(0,)
        )
        assert backbone(torch.zeros(1, 3, 20, 32))["feat"].shape == (1, 768, 1, 1)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"out_features": ("block6",)}, r"OUT_FEATURES \('block6',\).*'block0' to 'block5'"),
        ({"out_features": ("feat", "block1")}, "OUT_FEATURES"),
        ({"out_features": ()}, "OUT_FEATURES"),
        ({"stride": 12}, "MODEL.TIMM.STRIDE 12: it must be a power of two"),
        ({"stride": -16}, "MODEL.TIMM.STRIDE -16"),
        ({"stride": 32, "canvas": 80}, "INPUT.CANVAS 80 .*stride 32"),
        (
            {"name": "test_resnet", "out_features": ("stage2", "stage3"), "stride": 16},
            r"different strides \[8, 16\]",
        ),
    ],
)
def test_bad_outputs(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**{"name": "test_vit", **kwargs})
