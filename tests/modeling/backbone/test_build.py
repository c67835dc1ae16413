"""Our backbones under Detectron2's own meta-architectures, with its own tools."""

import pytest
import timm
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.model_zoo import get_config_file
from detectron2.modeling import BACKBONE_REGISTRY, FPN, build_backbone, build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from safetensors.torch import load_file, save_file

import segic_d2
from segic_d2.checkpoint import trainable_state_dict
from segic_d2.modeling.backbone import TimmBackbone, build_pyramid, embedded
from tests.tiny import TinyBackbone, tiny_config, tiny_episode

needs_weights = pytest.mark.skipif(
    not embedded.cache_path().is_file(), reason="embedded weights not prepared: make setup"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "test_vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), path)
    return str(path)


def foreign(*opts, base=""):
    """A config of someone else's, on a tiny ViT/16."""
    cfg = get_cfg()
    segic_d2.add_segic_config(cfg)
    if base:
        cfg.merge_from_file(get_config_file(base))
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.NAME", "build_timm_backbone"])
    cfg.merge_from_list(["MODEL.TIMM.NAME", "test_vit", "MODEL.WEIGHTS", "", "INPUT.CANVAS", 224])
    cfg.merge_from_list(list(opts))
    segic_d2.set_pixel_statistics(cfg)
    return cfg


def segmentor(*opts):
    head = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 3]
    head += ["MODEL.SEM_SEG_HEAD.IN_FEATURES", ["feat"], "MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 16]
    return foreign(*head, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, *opts)


def mask_rcnn(*opts):
    """Detectron2's own, with small heads."""
    base = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
    small = ["MODEL.FPN.OUT_CHANNELS", 32, "MODEL.ROI_HEADS.NUM_CLASSES", 3]
    small += ["MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16]
    small += ["MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16, "MODEL.ROI_MASK_HEAD.NUM_CONV", 1]
    return foreign(*small, *opts, base=base)


def step(cfg, *sizes):
    """One training step on random pictures; the model and its losses."""
    torch.manual_seed(0)
    model, inputs = build_model(cfg).train(), []
    for height, width in sizes or ((70, 100), (90, 64)):
        masks = torch.zeros(1, height, width, dtype=torch.bool)
        masks[:, 10:50, 20:60] = True
        things = Instances((height, width), gt_boxes=Boxes([[20, 10, 60, 50]]))
        things.gt_classes, things.gt_masks = torch.tensor([1]), BitMasks(masks)
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        inputs.append({"image": image, "instances": things, "sem_seg": masks[0].long()})
    with EventStorage():
        losses = model(inputs)
        sum(losses.values()).backward()
    assert losses and all(torch.isfinite(loss) for loss in losses.values()), losses
    return model


@pytest.mark.parametrize("builder", ["SemanticSegmentor", "GeneralizedRCNN", "SegIC"])
def test_the_weights_of_the_file_come_whoever_asks(file, builder, caplog):
    opts = ["MODEL.BACKBONE.WEIGHTS", file]
    if builder == "SegIC":
        name = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_vit"]
        cfg = tiny_config(*opts, *name, canvas=64)
    else:
        cfg = segmentor(*opts) if builder == "SemanticSegmentor" else mask_rcnn(*opts, *ONE_MAP)
    with caplog.at_level("INFO"):
        own = build_model(cfg).backbone.model.state_dict()
    state = load_file(file)
    assert own and all(torch.equal(value, state[name]) for name, value in own.items())
    assert caplog.text.count("backbone loaded from") == 1


@pytest.mark.parametrize("weights", ["", "given"])
def test_segic_which_freezes_its_backbone_refuses_a_pyramid(file, weights):
    name = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "test_vit"]
    cfg = tiny_config(*name, "MODEL.BACKBONE.WEIGHTS", weights and file, canvas=64)
    with pytest.raises(ValueError, match="'build_timm_fpn_b.*' is a pyr.*build_timm_backbone"):
        build_model(cfg)


@needs_weights
def test_the_embedded_weights_come_under_a_semantic_segmentor():
    name = ["MODEL.TIMM.NAME", embedded.TIMM_NAME, "MODEL.BACKBONE.WEIGHTS", "embedded"]
    own = build_model(segmentor(*name)).backbone.model.state_dict()
    state = load_file(embedded.cache_path())
    assert len(own) == len(state) == 174
    assert all(torch.equal(value, state[name]) for name, value in own.items())


def test_what_cannot_be_loaded_is_an_error_that_lists_it(tmp_path, file):
    state = load_file(file)
    del state["blocks.2.mlp.fc1.weight"]
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"blocks.2.mlp.fc1.weight \(absent\)"):
        build_model(segmentor("MODEL.BACKBONE.WEIGHTS", str(tmp_path / "a.safetensors")))


def test_without_weights_one_line_says_so_also_under_segic(caplog):
    build_model(segmentor())
    assert caplog.text.count("the backbone is random") == 1
    caplog.clear()
    name = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_vit"]
    build_model(tiny_config(*name, canvas=64))
    assert caplog.text.count("the backbone is random") == 1


def test_nothing_is_loaded_on_the_meta_device(caplog):
    with torch.device("meta"):
        backbone = build_backbone(segmentor("MODEL.BACKBONE.WEIGHTS", "nowhere.pth"))
    assert all(p.is_meta for p in backbone.parameters()) and "backbone" not in caplog.text


def test_others_train_it_and_may_freeze_it():
    model = step(segmentor())
    assert all(p.grad is not None for p in model.backbone.parameters())
    assert model.backbone.model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    assert any("backbone" in name for name in trainable_state_dict(model))
    model = step(segmentor("MODEL.TIMM.FROZEN", True))
    assert not any(p.requires_grad or p.grad is not None for p in model.backbone.parameters())
    assert not any(m.training for m in model.backbone.modules())
    assert model.sem_seg_head.predictor.weight.grad.abs().sum() > 0
    assert not any("backbone" in name for name in trainable_state_dict(model))


def test_segic_freezes_what_others_would_train():
    name = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_resnet"]
    model = build_model(tiny_config(*name, "MODEL.TIMM.BLOCKS", (2,), canvas=112)).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    losses = model([tiny_episode(0, training=True)])
    sum(losses.values()).backward()
    assert not any(p.requires_grad or p.grad is not None for p in model.backbone.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())


ONE_MAP = [  # of stride 16, without a pyramid
    *("MODEL.RPN.IN_FEATURES", ["feat"], "MODEL.ROI_HEADS.IN_FEATURES", ["feat"]),
    *("MODEL.ANCHOR_GENERATOR.SIZES", [[32, 64]]),
]
DINO = ["MODEL.TIMM.NAME", "vit_small_patch14_dinov2", "MODEL.TIMM.BLOCKS", (0,)]


def test_a_vit_14_trains_under_mask_rcnn():
    """On pictures whose padded sides are multiples of 16, not of 14."""
    stride = ["MODEL.TIMM.STRIDE", 16]
    model = step(mask_rcnn(*DINO, *ONE_MAP, *stride))
    assert model.backbone.output_shape()["feat"] == ShapeSpec(channels=384, stride=16)
    assert model.backbone.model.blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    with pytest.raises(AssertionError, match="not power of 2"):  # Detectron2's own words
        build_model(mask_rcnn(*DINO, *ONE_MAP))


def test_a_vit_14_has_a_pyramid_and_trains():
    pyramid = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.STRIDE", 16]
    model = step(mask_rcnn(*DINO, *pyramid, "MODEL.TIMM.FROZEN", True))
    assert not any(p.requires_grad for p in model.backbone.net.parameters())
    trained = [p for n, p in model.backbone.named_parameters() if not n.startswith("net.")]
    assert trained and all(p.grad is not None for p in trained)
    (found,) = model.eval()([{"image": torch.zeros(3, 75, 91)}])
    assert found["instances"].image_size == (75, 91)


def test_the_levels_of_a_pyramid():
    cfg = foreign("MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.FPN.OUT_CHANNELS", 8)
    pyramid = build_backbone(cfg)
    shapes = pyramid.output_shape()
    assert {n: (s.stride, s.channels) for n, s in shapes.items()} == {
        f"p{i}": (2**i, 8) for i in range(2, 7)
    }
    assert pyramid.size_divisibility == 32
    out = pyramid(torch.zeros(1, 3, 64, 96))
    assert {n: tuple(x.shape[1:]) for n, x in out.items()} == {
        "p2": (8, 16, 24),
        "p3": (8, 8, 12),
        "p4": (8, 4, 6),
        "p5": (8, 2, 3),
        "p6": (8, 1, 2),
    }


def test_a_cnn_has_detectron2s_fpn():
    stages = ["MODEL.TIMM.NAME", "test_resnet", "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"]
    stages += ["MODEL.TIMM.OUT_FEATURES", ("stage1", "stage2", "stage3", "stage4")]
    model = step(mask_rcnn(*stages))
    assert isinstance(model.backbone, FPN) and model.backbone.size_divisibility == 32
    assert list(model.backbone.output_shape()) == ["p2", "p3", "p4", "p5", "p6"]
    assert model.backbone.bottom_up.model.conv1[0].weight.grad.abs().sum() > 0


def test_retinanet_has_its_levels_and_trains():
    base = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"
    name = ["MODEL.BACKBONE.NAME", "build_retinanet_timm_fpn_backbone"]
    name += ["MODEL.FPN.OUT_CHANNELS", 16]
    stages = "MODEL.TIMM.OUT_FEATURES", ("stage1", "stage2", "stage3", "stage4")
    for own in (), ("MODEL.TIMM.NAME", "test_resnet", *stages):
        backbone = step(foreign(*name, *own, base=base)).backbone
        assert list(backbone.output_shape()) == [f"p{i}" for i in range(2, 8)]
        assert backbone.top_block.p7.weight.grad.abs().sum() > 0


def test_maps_that_make_no_pyramid_are_refused():
    pyramid, several = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"], "MODEL.TIMM.OUT_FEATURES"
    with pytest.raises(ValueError, match="stride 16, not 14.*; set MODEL.TIMM.STRIDE 16"):
        build_backbone(foreign(*DINO, *pyramid))
    with pytest.raises(ValueError, match=r"\[16, 16\] of block1, block3; set .*\('feat',\)"):
        build_backbone(foreign(*pyramid, several, ("block1", "block3")))
    stages = ["MODEL.TIMM.NAME", "test_resnet", several, ("stage1", "stage3")]
    with pytest.raises(ValueError, match=r"\[4, 16\] of .*choose other MODEL.TIMM.OUT_FEATURES"):
        build_backbone(foreign(*pyramid, *stages))
    with pytest.raises(ValueError, match="not 14 of TinyBackbone; take another backbone"):
        build_pyramid(foreign(), TinyBackbone(24, 14))
    with pytest.raises(ValueError, match=r"\('block1', 'block1'\) names a block twice"):
        build_backbone(foreign(several, ("block1", "block1")))


def test_a_pyramid_stands_over_any_backbone():
    """Also over one of a user's, and of the diffusion model's one map."""
    pyramid = build_pyramid(foreign("MODEL.FPN.OUT_CHANNELS", 8), TinyBackbone(24, 16))
    assert pyramid(torch.zeros(1, 3, 32, 32))["p2"].shape == (1, 8, 8, 8)


def test_a_builder_of_someone_else_that_cannot_load_is_loaded_for(file):
    name = "build_a_guests_backbone"
    if name not in BACKBONE_REGISTRY:

        def build_a_guests_backbone(cfg, input_shape):
            return TimmBackbone(name="test_vit")

        BACKBONE_REGISTRY.register(build_a_guests_backbone)
    weights = ["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.WEIGHTS", file]
    own = build_model(tiny_config(*weights, canvas=64)).backbone.model.state_dict()
    state = load_file(file)
    assert all(torch.equal(value, state[name]) for name, value in own.items())


@pytest.mark.parametrize(
    "opts, tap, channels",
    [
        ([], "vit_small_patch14_dinov2/0/norm/stride16", 384),
        (["MODEL.TIMM.BLOCKS", (0, 1)], "vit_small_patch14_dinov2/0+1/norm/stride16", 768),
        (
            ["MODEL.TIMM.OUT_FEATURES", ("block0", "block1"), "MODEL.SEGIC.IN_FEATURE", "block1"],
            "vit_small_patch14_dinov2/0+1/norm/stride16",
            384,
        ),
    ],
)
def test_segic_takes_another_stride_and_one_of_several_maps(opts, tap, channels):
    name = ["MODEL.BACKBONE.NAME", "build_timm_backbone", *DINO, "MODEL.TIMM.STRIDE", 16]
    torch.manual_seed(0)
    model = build_model(tiny_config(*name, *opts, canvas=112)).train()
    assert model.fingerprint["backbone"] == tap
    assert model.encode_images([torch.zeros(3, 84, 112)]).map.shape == (1, channels, 7, 7)
    losses = model([tiny_episode(0, training=True)])
    assert all(torch.isfinite(loss) for loss in losses.values())
    (found,) = model.eval()([tiny_episode(0)])
    assert found["masks"].shape == (2, 168, 224)
