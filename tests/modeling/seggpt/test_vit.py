"""The network: its size, its names, its attention, and which canvases see each other."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling.backbone.vit import Attention

from segic_d2.modeling.seggpt.training import lower_half
from segic_d2.modeling.seggpt.vit import FusedAttention, PaintingViT
from tests.modeling.seggpt.parts import tiny_model

KEYS = Path(__file__).resolve().parents[4] / "shared/golden/seggpt_keys.txt"
HALF = lower_half(8, 4)[None]
OWN = {"side": 32, "patch": 8, "width": 64, "depth": 4, "heads": 4, "taps": (2, 3), "merge": 1}


def on_meta(**options):
    with torch.device("meta"):
        return PaintingViT(**options)


@pytest.mark.parametrize("told, numbers, names", [(1, 370_723_203, 354), (0, 370_721_155, 352)])
def test_size(told, numbers, names):
    state = on_meta(type_tokens=bool(told)).state_dict()
    assert (sum(v.numel() for v in state.values()), len(state)) == (numbers, names)


@pytest.mark.skipif(not KEYS.is_file(), reason="the list of released names is not at hand")
def test_names_and_shapes_are_the_released_ones():
    lines = (line.split(" ", 1) for line in KEYS.read_text().splitlines())
    shapes = {k: str(tuple(v.shape)) for k, v in on_meta().state_dict().items()}
    assert shapes == dict(lines)


def test_taps_lie_behind_the_merge():
    with pytest.raises(ValueError, match=r"TAPS \(1, 2\) must lie between MERGE 1 and DEPTH 3"):
        on_meta(width=8, heads=1, depth=3, taps=(1, 2), merge=1)


@pytest.mark.parametrize("grid", [(8, 4), (6, 10)])
def test_fused_attention_is_detectron2s(grid):
    """Also on a grid that the tables are not for."""
    torch.manual_seed(0)
    slow = Attention(16, 2, use_rel_pos=True, input_size=(8, 4))
    torch.nn.init.normal_(slow.rel_pos_h)
    torch.nn.init.normal_(slow.rel_pos_w)
    fused = FusedAttention(16, 2, use_rel_pos=True, input_size=(8, 4))
    fused.load_state_dict(slow.state_dict())
    x = torch.randn(3, *grid, 16)
    torch.testing.assert_close(fused(x), slow(x), rtol=1e-5, atol=1e-6)


def net():
    return tiny_model().net


def canvases(count, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, count, 3, 64, 32)


@torch.no_grad()
def run(model, pictures, colours, group=1, types=None, masked=HALF):
    types = torch.ones(len(pictures), dtype=torch.long) if types is None else types
    return model(pictures, colours, masked, types, group)


def test_copies_of_a_prompt_are_one():
    one = canvases(1)
    many = one.repeat_interleave(3, 1)
    alone, together = run(net(), *one), run(net(), *many, group=3)
    torch.testing.assert_close(together, alone.expand_as(together), rtol=0, atol=1e-5)


def shared_targets(count=6):
    x = canvases(count)
    x[0, :3, :, 32:], x[0, 3:, :, 32:] = x[0, 0, :, 32:].clone(), x[0, 3, :, 32:].clone()
    return x


def test_groups_are_as_apart():
    x, model = shared_targets(), net()
    apart = torch.cat([run(model, *x[:, i : i + 3], group=3) for i in (0, 3)])
    torch.testing.assert_close(run(model, *x, group=3), apart, rtol=0, atol=1e-5)
    assert (run(model, *x) - apart).abs().max() > 1e-2  # without an ensemble it is another thing


def test_a_group_paints_one_target_in_any_order():
    x, model = shared_targets()[:, :3], net()
    found = run(model, *x, group=3)[:, :, 33:]  # the first row sees the prompt
    torch.testing.assert_close(found[1:], found[:2], rtol=0, atol=1e-5)
    turned = run(model, *x[:, [2, 0, 1]], group=3)[:, :, 33:]
    torch.testing.assert_close(turned, found, rtol=0, atol=1e-5)


def test_what_is_hidden_does_not_matter_and_pictures_do():
    (pictures, colours), model = canvases(1), net()
    other = colours.clone()
    other[:, :, 32:] = torch.randn(1, 3, 32, 32)
    assert torch.equal(run(model, pictures, colours), run(model, pictures, other))
    assert (run(model, pictures.flip(-1), colours) - run(model, pictures, colours)).abs().max() > 0


def test_each_canvas_has_its_own_type():
    x, model = canvases(2), net()
    mixed = run(model, *x, types=torch.tensor([0, 1]))
    assert torch.equal(mixed[1], run(model, *x)[1])
    assert (mixed[0] - run(model, *x)[0]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="types are needed"):
        model(*x, HALF)


def test_attention_is_global_in_every_block():
    """The last column of the prompt changes the first one of the target in one block."""
    block = net().blocks[0].eval()
    x = torch.randn(1, 8, 4, 32)
    other = x.clone()
    other[0, 0, 3, 0] += 3
    assert (block(x) - block(other))[0, 7, 0].abs().max() > 0
    assert all(b.window_size == 0 for b in net().blocks)


def test_bf16_of_the_weights_and_by_autocast():
    x, model = canvases(3), net()
    x[0, :, :, 32:] = x[0, :1, :, 32:]
    exact = run(model, *x, group=3)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(model, *x, group=3)
    half = run(model.to(torch.bfloat16), *x, group=3)
    assert half.dtype == torch.bfloat16
    scale = exact.std()
    for found in (mixed, half):
        assert (found.float() - exact).abs().mean() < 0.03 * scale


def test_depth_is_stochastic_by_linear_rates():
    rates = [getattr(b.drop_path, "drop_prob", 0.0) for b in on_meta(drop_path=0.1).blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.1)
    assert rates[12] == pytest.approx(0.1 * 12 / 23)


def test_untrained_weights_are_as_wide_as_the_width_asks_for_and_alike_where_told():
    net, alike = (PaintingViT(**OWN, alike=a) for a in (False, True))
    for block, other in zip(net.blocks, alike.blocks, strict=True):
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.08, rel=0.15)  # 0.02 at 1024
        q, k, v = other.attn.qkv.weight.chunk(3)
        assert torch.equal(q, k) and not torch.equal(q, v)
        assert not torch.equal(*block.attn.qkv.weight.chunk(3)[:2])
