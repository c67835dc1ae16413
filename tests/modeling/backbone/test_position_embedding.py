"""MODEL.TIMM.POS_EMBED against the plain formula of DINOv2's resampling."""

import copy

import numpy as np
import pytest
import timm
import torch
from detectron2.modeling import build_backbone, build_model

from segic_d2.config.load import load_config
from segic_d2.modeling.backbone import TimmBackbone
from segic_d2.modeling.backbone.position_embedding import resample_position_embedding
from tests.tiny import tiny_config

DINOV2, TINY = "vit_small_patch14_dinov2", {"depth": 2, "embed_dim": 48, "num_heads": 2}


def cubic(x):
    """The bicubic kernel with a = -0.75."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def sampling(old, new):
    """(new, old) of one axis: cell i reads at (i + 0.5) / scale - 0.5, inside the border."""
    matrix, scale = np.zeros((new, old)), (new + 0.1) / old
    for i in range(new):
        source = (i + 0.5) / scale - 0.5
        first = int(np.floor(source))
        for cell in range(first - 1, first + 3):
            matrix[i, min(max(cell, 0), old - 1)] += cubic(source - cell)
    return matrix


def formula(embedding, old, new, prefix=1):
    """Embedding (1, P + G·G, C) → (1, P + g·h, C), in float64."""
    cells = embedding[0, prefix:].double().numpy().reshape(*old, -1)
    rows, columns = sampling(old[0], new[0]), sampling(old[1], new[1])
    cells = np.einsum("iy,jx,yxc->ijc", rows, columns, cells).reshape(new[0] * new[1], -1)
    return torch.cat([embedding[0, :prefix].double(), torch.from_numpy(cells)])[None]


def relative(a, b):
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("new", [(64, 64), (16, 16), (20, 50), (37, 38), (1, 2)])
@pytest.mark.parametrize("prefix", [0, 1])
def test_resampling_is_the_formula(new, prefix):
    torch.manual_seed(0)
    embedding = torch.randn(1, prefix + 37 * 37, 5)
    got = resample_position_embedding(embedding, (37, 37), new, prefix)
    expected = formula(embedding, (37, 37), new, prefix)
    torch.testing.assert_close(got.double(), expected, atol=2e-4, rtol=0)
    assert torch.equal(got[:, :prefix], embedding[:, :prefix])
    half = resample_position_embedding(embedding.half(), (37, 37), new, prefix)
    assert half.dtype == torch.float16 and relative(half.float(), got) < 1e-3


def test_the_grid_of_the_checkpoint_stays_as_it_is():
    embedding = torch.randn(1, 1 + 37 * 37, 5)
    assert resample_position_embedding(embedding, (37, 37), (37, 37)) is embedding


def test_models_with_registers_are_antialiased_as_by_timm():
    embedding = torch.randn(1, 37 * 37, 5)
    got = resample_position_embedding(embedding, (37, 37), (16, 20), 0, registers=True)
    expected = timm.layers.resample_abs_pos_embed(embedding, (16, 20), num_prefix_tokens=0)
    assert torch.equal(got, expected)
    name = "vit_small_patch14_reg4_dinov2"
    ours, timms = (TimmBackbone(name=name, positions=p, **TINY) for p in ("dinov2", "timm"))
    timms.load_state_dict(ours.state_dict())
    x = torch.randn(1, 3, 84, 140)
    assert torch.equal(ours(x)["feat"], timms(x)["feat"])


@pytest.mark.parametrize("size", [(896, 896), (224, 224), (84, 140)])
def test_features_are_timms_on_the_resampled_embedding(size):
    torch.manual_seed(0)
    ours = TimmBackbone(name=DINOV2, positions="dinov2", canvas=size[0], **TINY)
    ours.model.pos_embed.mul_(10)  # of a trained model's weight against the pixels
    timms = TimmBackbone(name=DINOV2, canvas=size[0], **TINY)
    timms.load_state_dict(ours.state_dict())
    plain = timm.create_model(DINOV2, num_classes=0, img_size=size, **TINY).eval()
    state, grid = ours.model.state_dict(), (size[0] // 14, size[1] // 14)
    state["pos_embed"] = formula(state["pos_embed"], (37, 37), grid).float()
    plain.load_state_dict(state)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        tokens = plain.forward_features(x)[:, 1:]
    expected = tokens.transpose(1, 2).reshape(1, 48, *grid)
    torch.testing.assert_close(ours(x)["feat"], expected, atol=1e-4, rtol=0)
    assert 0.02 < relative(timms(x)["feat"], expected) < 0.4  # so the choice matters


def test_the_checkpoint_and_its_embedding_are_left_alone():
    backbone = TimmBackbone(name="test_vit", positions="dinov2", canvas=96)
    before, own = copy.deepcopy(backbone.state_dict()), backbone.model.pos_embed
    backbone(torch.zeros(1, 3, 96, 224))
    after = backbone.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[k], before[k]) for k in before)
    assert backbone.model.pos_embed is own and backbone.model.patch_embed.grid_size == (10, 10)
    x = torch.randn(1, 3, 160, 160)  # the size of the checkpoint
    timms = TimmBackbone(name="test_vit")
    timms.load_state_dict(before)
    assert torch.equal(backbone(x)["feat"], timms(x)["feat"])


def test_another_embedding_shows_at_once_however_it_came():
    backbone = TimmBackbone(name="test_vit", positions="dinov2", canvas=96)
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    first, copied = backbone(x)["feat"], copy.deepcopy(backbone)
    own = backbone.model.pos_embed.clone()
    backbone.model.pos_embed.data.add_(1)  # behind the back of version counters
    changed = backbone(x)["feat"]
    assert not torch.equal(changed, first) and torch.equal(copied(x)["feat"], first)
    backbone.load_state_dict({**backbone.state_dict(), "model.pos_embed": own}, assign=True)
    assert torch.equal(backbone(x)["feat"], first)
    backbone.double()
    assert backbone(x.double())["feat"].dtype == torch.float64


@pytest.mark.parametrize("name", ["vit_base_patch16_224.dino", "eva02_tiny_patch14_224"])
def test_other_vits_and_the_meta_device(name):
    kwargs = {"name": name, "positions": "dinov2", "canvas": 224, **TINY}
    with torch.device("meta"):
        backbone = TimmBackbone(**kwargs)
        side = 6 * backbone.stride
        assert backbone(torch.zeros(2, 3, side, side))["feat"].shape == (2, 48, 6, 6)
    backbone = TimmBackbone(**kwargs)
    assert backbone(torch.zeros(1, 3, side, side))["feat"].isfinite().all()


@pytest.mark.parametrize(
    "name", ["convnext_atto", "vit_small_patch16_dinov3", "samvit_base_patch16", "resnet18"]
)
def test_models_without_a_position_embedding_are_refused(name):
    with pytest.raises(ValueError, match=f"POS_EMBED is 'dinov2', but MODEL.TIMM.NAME '{name}'"):
        TimmBackbone(name=name, positions="dinov2", canvas=224)


def test_the_key_and_the_fingerprint():
    opts = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_vit"]
    opts += ["INPUT.CANVAS", 112]
    dinov2 = ["MODEL.TIMM.POS_EMBED", "dinov2"]
    assert build_backbone(load_config(opts=opts)).tap == "test_vit/5/norm"
    assert build_backbone(load_config(opts=opts + dinov2)).tap == "test_vit/5/norm/dinov2-positions"
    with pytest.raises(ValueError, match=r"POS_EMBED is 'dino'; .* \('timm', 'dinov2'\)"):
        build_backbone(load_config(opts=[*opts, "MODEL.TIMM.POS_EMBED", "dino"]))
    timms, ours = (build_model(tiny_config(*opts, *more)) for more in ([], dinov2))
    ours.load_state_dict(timms.state_dict())
    ours.encode_images([torch.zeros(3, 96, 96)])
    differences = {k for k, v in ours.fingerprint.items() if v != timms.fingerprint[k]}
    assert differences == {"backbone"}
