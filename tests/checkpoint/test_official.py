"""Checkpoints of the released SegIC, loaded as they are or converted: all tensors or none."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import load_file, save_file

from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.checkpoint.official import HEAD, convert, needed_shapes
from tests.tiny import TinyBackbone, tiny_config

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT.parent / "shared/golden/golden_seed0_weights.safetensors"
LARGE = "official/segic_dinov2_L.yaml"


@pytest.fixture(scope="module")
def shapes():
    return needed_shapes(LARGE)


def official(shapes, seed=0):
    """A random checkpoint as the released code saves it: flat, float32, no prefix."""
    g = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}


@pytest.fixture
def large(shapes, tmp_path):
    torch.save(official(shapes), tmp_path / "official.pth")
    return tmp_path / "official.pth"


@pytest.fixture
def tiny():
    """A model whose head has all parts of the released one, and an official file that fits it."""
    text = ("MODEL.SEGIC.META", True, "MODEL.SEGIC.TEXT.MODEL", "never loaded")
    torch.manual_seed(0)
    model = build_model(tiny_config(*text))
    head = {k: v.shape for k, v in model.sem_seg_head.state_dict().items()}
    return model, official(head, seed=1)


def test_conversion_uses_every_tensor_and_changes_none(large, tmp_path, shapes):
    before = large.read_bytes()
    line = convert(large, tmp_path / "new" / "out.safetensors")
    assert f"all 148 tensors (5,377,764 numbers) of {large}, for {LARGE}" in line
    assert "\n" not in line and large.read_bytes() == before
    got, expected = load_file(tmp_path / "new" / "out.safetensors"), official(shapes)
    assert got.keys() == {HEAD + name for name in expected} and len(got) == 148
    for name, tensor in expected.items():
        assert torch.equal(got[HEAD + name], tensor) and got[HEAD + name].dtype == torch.float32
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["out.safetensors"]


@pytest.mark.parametrize("letter, channels", [("B", 768), ("L", 1024), ("G", 1536)])
def test_the_model_is_recognised_by_its_features(letter, channels, tmp_path):
    config = f"official/segic_dinov2_{letter}.yaml"
    shapes = needed_shapes(config)
    assert shapes["neck.0.weight"] == (256, channels, 1, 1)
    torch.save({k: torch.zeros(v) for k, v in shapes.items()}, tmp_path / "in.pth")
    assert convert(tmp_path / "in.pth", tmp_path / "out.safetensors").endswith(f"for {config}")


def test_unknown_features_need_a_config(tmp_path):
    shapes = needed_shapes("segic_dinov2_S.yaml")
    save_file(official(shapes), tmp_path / "in.safetensors")
    with pytest.raises(ValueError, match="features of 384 channels.*768: .*1536: .*--config"):
        convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
    for config in ("segic_dinov2_S.yaml", ROOT / "configs/segic_dinov2_S.yaml"):
        convert(tmp_path / "in.safetensors", tmp_path / "out.safetensors", config)
        assert len(load_file(tmp_path / "out.safetensors")) == 148


def spoil(state):
    """Two tensors gone, two too many, two of another shape, one of another type."""
    for name in ("prompt_proj.bias", "mask_decoder.iou_token.weight"):
        del state[name]
    state["neg_embed.weight"], state["epoch"] = torch.zeros(1, 7), 11
    state["neck.1.bias"] = torch.zeros(5)
    state["inst_proj.weight"] = state["inst_proj.weight"][:, :-1].clone()
    state["neck.1.weight"] = torch.zeros(state["neck.1.weight"].shape, dtype=torch.long)
    return state


def complaints(width, channels):
    return [
        f"missing: mask_decoder.iou_token.weight, expected (1, {width})",
        f"missing: prompt_proj.bias, expected ({width},)",
        "unused: neg_embed.weight, found (1, 7)",
        f"of another shape: neck.1.bias, found (5,), expected ({width},)",
        f"of another shape: inst_proj.weight, found ({width}, {channels - 1}), "
        f"expected ({width}, {channels})",
        f"of another shape: neck.1.weight, found ({width},) torch.int64, expected ({width},)",
    ]


def test_the_tool_names_all_that_does_not_fit(large, tmp_path, shapes):
    torch.save(spoil(official(shapes)), large)
    (tmp_path / "out.safetensors").write_bytes(b"as before")
    with pytest.raises(ValueError, match="official.pth does not fit.*2 ten.*2 unused, 3") as e:
        convert(large, tmp_path / "out.safetensors")
    for line in [*complaints(256, 1024), "unused: epoch, found a int"]:
        assert line in str(e.value)
    assert (tmp_path / "out.safetensors").read_bytes() == b"as before"
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("neck.1.bias_momentum", torch.zeros(3), "unused: neck.1.bias_momentum, found (3,)"),
        ("module", {"neck.0.weight": torch.zeros(1)}, "unused: module, found a dict"),
        ("model", {"neck.0.weight": torch.zeros(1)}, "unused: model, found a dict"),
        ("neck.1.bias", torch.zeros(256, device="meta"), "neck.1.bias, found (256,) without its"),
        ("neck.1.bias", torch.zeros(256).to_sparse(), "found (256,) torch.sparse_coo"),
        ("neck.1.bias", torch.full((256,), torch.nan), "(256,) with infinite or undefined numbers"),
    ],
)
def test_nothing_in_a_file_is_passed_over(large, tmp_path, shapes, name, value, message):
    torch.save({**official(shapes), name: value}, large)
    with pytest.raises(ValueError, match="official.pth does not fit") as error:
        convert(large, tmp_path / "out.safetensors")
    assert message in str(error.value)


def test_half_precision_is_converted_to_what_the_model_computes_with(large, tmp_path, shapes):
    torch.save({"model": {k: v.half() for k, v in official(shapes).items()}}, large)
    convert(large, tmp_path / "out.safetensors")
    assert {v.dtype for v in load_file(tmp_path / "out.safetensors").values()} == {torch.float32}


def test_model_weights_name_all_that_does_not_fit(tiny, tmp_path):
    model, state = tiny
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save(spoil(state), tmp_path / "official.pth")
    for complete in (False, True):
        with pytest.raises(ValueError, match="official.pth does not fit.*2 ten.*2 unused, 3") as e:
            SegICCheckpointer(model, complete=complete).load(str(tmp_path / "official.pth"))
        for line in [*complaints(32, 24), "unused: epoch, found a int"]:
            assert line in str(e.value)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_model_weights_take_an_official_checkpoint(tiny, tmp_path, suffix, caplog):
    model, state = tiny
    path = tmp_path / f"official{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with caplog.at_level(logging.INFO):
        SegICCheckpointer(model, complete=True).load(str(path))
    assert f"official SegIC checkpoint: all {len(state)} tensors are used" in caplog.text
    head = model.sem_seg_head.state_dict()
    assert head.keys() == state.keys() and all(torch.equal(head[k], state[k]) for k in state)


def test_our_own_checkpoints_are_no_official_ones(tiny, tmp_path, caplog):
    model, _ = tiny
    SegICCheckpointer(model, str(tmp_path)).save("own", iteration=3)
    saved = {k: v.clone() for k, v in model.state_dict().items()}
    torch.nn.init.zeros_(model.sem_seg_head.neck[0].weight)
    with caplog.at_level(logging.INFO):
        extra = SegICCheckpointer(model).load(str(tmp_path / "own.pth"))
    assert "official" not in caplog.text and extra["iteration"] == 3
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())
    with pytest.raises(ValueError, match="has the names of segic_d2 already.*takes it as it is"):
        convert(tmp_path / "own.pth", tmp_path / "out.safetensors")


def test_a_failed_load_does_not_spoil_the_next(tiny, tmp_path):
    model, state = tiny
    torch.save(spoil(dict(state)), tmp_path / "bad.pth")
    torch.save(state, tmp_path / "good.pth")
    checkpointer = SegICCheckpointer(model)
    with pytest.raises(ValueError, match="bad.pth"):
        checkpointer.load(str(tmp_path / "bad.pth"))
    checkpointer.load(str(tmp_path / "good.pth"))
    assert torch.equal(model.sem_seg_head.neck[0].weight, state["neck.0.weight"])


class Evil:
    def __reduce__(self):
        return os.system, ("touch PWNED",)


def load(model, path):
    SegICCheckpointer(model).load(str(path))


@pytest.mark.parametrize("name", ["evil.pth", "evil.pkl", "evil.pyth"])
@pytest.mark.parametrize("nested", [False, True])
def test_code_in_a_file_is_never_run(tiny, tmp_path, monkeypatch, name, nested):
    monkeypatch.chdir(tmp_path)
    model, state = tiny
    state = {**state, "evil": Evil()}
    torch.save({"model": state} if nested else state, name)
    with pytest.raises(ValueError, match="evil"):
        load(model, name)
    with pytest.raises(ValueError, match="evil"):
        convert(name, "out.safetensors")
    assert not Path("PWNED").exists() and not Path("out.safetensors").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_an_error_that_names_it(tiny, tmp_path, suffix, share):
    model, state = tiny
    path = tmp_path / f"cut{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=f"cut{suffix}"):
        load(model, path)
    with pytest.raises(ValueError, match=f"cut{suffix}"):
        convert(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        {"conv.weight": torch.zeros(3)},
        {0: torch.zeros(3)},
        [torch.zeros(3)],
        torch.zeros(3),
        {},
        {"model": [1]},
    ],
)
def test_something_else_is_an_error_that_names_the_file(tiny, tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth"):
        load(tiny[0], tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth"):
        convert(tmp_path / "other.pth", tmp_path / "out.safetensors")


def test_the_source_is_never_overwritten(large, tmp_path, shapes):
    with pytest.raises(ValueError, match=r"out.pth: the result is a .safetensors file"):
        convert(large, tmp_path / "out.pth")
    save_file(official(shapes), tmp_path / "in.safetensors")
    save_file(official(shapes), tmp_path / "out.safetensors.part")
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "in.safetensors")
    (tmp_path / "part.safetensors").symlink_to(tmp_path / "out.safetensors.part")
    for source, target in (("in", "in"), ("in", "link"), ("link", "in"), ("part", "out")):
        with pytest.raises(ValueError, match=f"{target}.safetensors would overwrite"):
            convert(tmp_path / f"{source}.safetensors", tmp_path / f"{target}.safetensors")
    with pytest.raises(FileNotFoundError, match="official checkpoint not found: .*nothing.pth"):
        convert(tmp_path / "nothing.pth", tmp_path / "out.safetensors")
    assert load_file(tmp_path / "in.safetensors").keys() == shapes.keys()
    assert load_file(tmp_path / "out.safetensors.part").keys() == shapes.keys()


def tool(*arguments):
    script = ROOT / "tools/convert_official_checkpoint.py"
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def test_the_tool_says_in_one_line_what_it_did(large, tmp_path):
    done = tool(large, tmp_path / "out.safetensors")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done.stderr
    assert "all 148 tensors" in done.stdout and LARGE in done.stdout
    failed = tool(large, tmp_path / "out.safetensors", "--config", "nowhere.yaml")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[-1].startswith("error: no config 'nowhere.yaml'")


@pytest.mark.skipif(not GOLDEN.exists(), reason="the reference files are not here")
def test_released_weights_load_directly_and_converted_alike(tmp_path):
    """Also the key biases of the attentions, which cannot change an output."""
    state = load_file(GOLDEN)
    channels = state["neck.0.weight"].shape[1]
    torch.save(state, tmp_path / "official.pth")
    convert(tmp_path / "official.pth", tmp_path / "ours.safetensors", "segic_dinov2_S.yaml")
    size = ("MODEL.SEGIC.DECODER.WIDTH", 256, "MODEL.SEGIC.DECODER.MLP", 2048)
    size += ("MODEL.SEGIC.DECODER.HEADS", 8, "MODEL.SEGIC.META", True)
    heads = []
    for path in (GOLDEN, tmp_path / "official.pth", tmp_path / "ours.safetensors"):
        with pytest.MonkeyPatch.context() as patch:
            backbone = TinyBackbone(channels)
            patch.setattr(
                "segic_d2.modeling.segic.meta_arch.build_backbone", lambda cfg, b=backbone: b
            )
            model = build_model(tiny_config(*size))
        SegICCheckpointer(model, complete=True).load(str(path))
        heads.append(model.sem_seg_head.state_dict())
    for head in heads:
        assert head.keys() == state.keys() and len(state) == 148
        assert all(torch.equal(head[k], state[k]) for k in state)
