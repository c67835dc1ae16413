import copy
import json
import shutil
import socket
import sys
import time

import pytest
import torch
from detectron2.modeling import build_model
from huggingface_hub import constants

from segic_d2.modeling.text.encoder import (
    OpenClipTextEncoder,
    TableTextEncoder,
    build_text_encoder,
    check_texts,
    save_text_table,
)
from segic_d2.utils import remote
from tests.tiny import tiny_config


def test_a_table_returns_the_vectors_it_was_given(tmp_path):
    path = tmp_path / "table.safetensors"
    vectors = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    save_text_table(path, ["", "a photo of a cat", "a photo of a dog"], vectors)
    table = TableTextEncoder(path, 16)
    save_text_table(tmp_path / "other.safetensors", ["", "a", "b"], vectors)
    other = TableTextEncoder(tmp_path / "other.safetensors", 16)
    (tmp_path / "moved").mkdir()
    moved = TableTextEncoder(shutil.copy(path, tmp_path / "moved" / "new.safetensors"), 16)
    assert table.identity == moved.identity != other.identity  # known by content, not by name
    assert torch.equal(table.encode(["a photo of a dog", ""]), vectors[[2, 0]])
    with pytest.raises(
        KeyError, match="'a photo of a cow' is not in the table .*table.safetensors"
    ):
        table.encode(["a photo of a cow"])
    with pytest.raises(ValueError, match="length 16, MODEL.SEGIC.TEXT.DIM is 768"):
        TableTextEncoder(path, 768)
    with pytest.raises(ValueError, match="2 vectors for 1 different texts"):
        save_text_table(path, ["a", "a"], vectors[:2])


def test_configuration_errors():
    with pytest.raises(FileNotFoundError, match="MODEL.SEGIC.TEXT.TABLE is 'none.safetensors'"):
        text = ("MODEL.SEGIC.TEXT.NAME", "table", "MODEL.SEGIC.TEXT.TABLE", "none.safetensors")
        build_text_encoder(tiny_config("MODEL.SEGIC.META", True, *text))
    with pytest.raises(ValueError, match="META is on but MODEL.SEGIC.TEXT.NAME is 'none'"):
        build_text_encoder(tiny_config("MODEL.SEGIC.META", True, "MODEL.SEGIC.TEXT.NAME", "none"))
    assert build_text_encoder(tiny_config()) is None


WIDTH, HEADS, LAYERS, END = 32, 4, 3, 49407  # END: the end-of-text token of CLIP's vocabulary


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Name and random weight file of a tiny CLIP in the manner of "ViT-L-14-quickgelu"."""
    open_clip = pytest.importorskip("open_clip")
    folder, name = tmp_path_factory.mktemp("clip"), "test-tiny-quickgelu"
    config = copy.deepcopy(open_clip.get_model_config("ViT-L-14-quickgelu"))
    assert config["quick_gelu"] and config["text_cfg"]["context_length"] == 77
    config["embed_dim"] = 24
    config["text_cfg"] |= {"width": WIDTH, "heads": HEADS, "layers": LAYERS}
    config["vision_cfg"] = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    torch.manual_seed(0)
    state = open_clip.create_model(name).state_dict()
    for key, value in state.items():  # every norm and bias counts, and every token differs
        state[key] = value + 0.1 * torch.randn_like(value)
    torch.save(state, folder / "clip.pt")
    return name, folder / "clip.pt"


def norm(x, state, name):
    """Layer norm over the channels, eps 1e-5."""
    x = x - x.mean(-1, keepdim=True)
    x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return x * state[f"{name}.weight"] + state[f"{name}.bias"]


def attention(x, state, name):
    """Causal self-attention of x (L, D): position i sees the positions 0…i."""
    length = len(x)
    projected = x @ state[f"{name}.in_proj_weight"].T + state[f"{name}.in_proj_bias"]
    q, k, v = (y.view(length, HEADS, -1).transpose(0, 1) for y in projected.chunk(3, -1))
    scores = q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5  # (heads, L, L)
    weights = scores.exp() * torch.ones(length, length).tril()
    mixed = (weights / weights.sum(-1, keepdim=True)) @ v
    mixed = mixed.transpose(0, 1).reshape(length, WIDTH)
    return mixed @ state[f"{name}.out_proj.weight"].T + state[f"{name}.out_proj.bias"]


def text_vector(tokens, state):
    """The released text vector of a list of token ids: D numbers at the first end-of-text token."""
    x = state["token_embedding.weight"][tokens] + state["positional_embedding"][: len(tokens)]
    for layer in range(LAYERS):
        block = f"transformer.resblocks.{layer}"
        x = x + attention(norm(x, state, f"{block}.ln_1"), state, f"{block}.attn")
        h = norm(x, state, f"{block}.ln_2") @ state[f"{block}.mlp.c_fc.weight"].T
        h = h + state[f"{block}.mlp.c_fc.bias"]
        h = h * torch.sigmoid(1.702 * h)
        x = x + h @ state[f"{block}.mlp.c_proj.weight"].T + state[f"{block}.mlp.c_proj.bias"]
    return norm(x, state, "ln_final")[tokens.index(END)]


def test_open_clip_gives_the_end_of_text_token_before_the_projection(clip):
    """Against the formula written out above; the length of the padding changes nothing."""
    import open_clip

    name, path = clip
    texts = ["a photo of a cat", "", "please segment the instances", "a photo of a cat"]
    got = OpenClipTextEncoder(name, str(path), WIDTH).encode(texts)
    assert got.shape == (4, WIDTH) and got.dtype == torch.float32
    assert torch.equal(got[0], got[3])
    state = {k: v.double() for k, v in torch.load(path, weights_only=True).items()}
    for tokens, vector in zip(open_clip.get_tokenizer(name)(texts).tolist(), got, strict=True):
        assert len(tokens) == 77
        content = tokens[: tokens.index(END) + 1]
        assert not any(tokens[len(content) :])
        expected = text_vector(tokens, state)
        torch.testing.assert_close(vector.double(), expected, atol=1e-5, rtol=1e-5)
        # other software pads with the end-of-text token; causal attention never looks ahead
        ended = content + [END] * (77 - len(content))
        for other in (content, content + [0] * 5, ended):
            torch.testing.assert_close(text_vector(other, state), expected, atol=1e-12, rtol=0)


def test_open_clip_errors(clip):
    name, path = clip
    with pytest.raises(ValueError, match=f"length {WIDTH}, MODEL.SEGIC.TEXT.DIM is 768"):
        OpenClipTextEncoder(name, str(path), 768).encode([""])
    with pytest.raises(ValueError, match="'ViT-0' is no open_clip model"):
        OpenClipTextEncoder("ViT-0", "", 768).encode([""])


def open_clip_config(model, weights):
    text = ("MODEL.SEGIC.TEXT.MODEL", model, "MODEL.SEGIC.TEXT.WEIGHTS", weights)
    return tiny_config("MODEL.SEGIC.META", True, *text)


def test_a_tower_that_cannot_be_had_is_known_at_once(clip, monkeypatch):
    """Before it is asked for anything, in one line, and without open_clip's minutes of retries."""
    import open_clip

    name, path = clip
    check_texts(open_clip_config(name, str(path)))
    check_texts(tiny_config())
    monkeypatch.setattr(remote, "unreachable", lambda url: "no network")
    monkeypatch.setattr("segic_d2.modeling.text.encoder.unreachable", remote.unreachable)
    monkeypatch.setattr(open_clip, "create_model", lambda *args, **kwargs: pytest.fail("tried"))
    cfg = open_clip_config("ViT-L-14-quickgelu", "dfn2b")
    repository = "apple/DFN2B-CLIP-ViT-L-14"
    with pytest.raises(FileNotFoundError) as error:
        check_texts(cfg)
    with pytest.raises(FileNotFoundError) as again:
        build_text_encoder(cfg).encode(["a photo of a cat"])
    message = str(error.value)
    assert message == str(again.value) and "\n" not in message
    assert f"({repository} is not in the hub's cache; no network)" in message
    for way in ("TEXT.WEIGHTS 'dfn2b'", "MODEL.SEGIC.TEXT.NAME table", "MODEL.SEGIC.META False"):
        assert way in message
    with pytest.raises(FileNotFoundError, match="clip2.pt': .*no file, and none of its pretrained"):
        check_texts(open_clip_config(name, str(path.with_name("clip2.pt"))))


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No socket connects, no name is found, and the hub's cache is the returned, empty folder."""

    def refuse(*args, **kwargs):
        raise OSError("no network here")

    for name in ("SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_without_network_a_reference_fails_at_once(no_network, monkeypatch):
    """Before any picture is encoded, by a backbone that is here; the three ways are said."""
    model = build_model(open_clip_config("ViT-L-14-quickgelu", "openai"))
    monkeypatch.setattr(model, "encode_images", lambda *a: pytest.fail("encoded"))
    image, masks = torch.zeros(3, 56, 56, dtype=torch.uint8), torch.ones(1, 56, 56)
    started = time.perf_counter()
    with pytest.raises(OSError, match="no network here") as error:
        model.encode_context([{"image": image, "masks": masks, "entity_ids": [1]}], {1: "cat"})
    assert time.perf_counter() - started < 5
    message = str(error.value)
    assert message.startswith("MODEL.SEGIC.TEXT.WEIGHTS 'openai': could not load ViT-L-14-quickgel")
    assert message.endswith(
        "set MODEL.SEGIC.META False to do without text, or the key to a file on this machine, or "
        "MODEL.SEGIC.TEXT.NAME table, which tools/precompute_text.py makes elsewhere"
    )


@pytest.mark.parametrize("kept", ["tower.bin", "tower.safetensors", "open_clip_pytorch_model.bin"])
def test_without_network_the_hubs_cache_is_enough(clip, no_network, monkeypatch, kept):
    """open_clip's own loader asks the hub whether what is kept is the newest, for minutes."""
    import open_clip
    from safetensors.torch import save_file

    name, path = clip
    tag = {"hf_hub": "some/where/" + ("" if kept.startswith("open") else "tower.bin")}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, weights: tag)
    folder = no_network / "models--some--where"
    (folder / "snapshots/0123").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text("0123")
    state = torch.load(path, weights_only=True)
    file = folder / "snapshots/0123" / kept
    save_file(state, file) if kept.endswith(".safetensors") else torch.save(state, file)
    got = OpenClipTextEncoder(name, "tag", WIDTH)
    started = time.perf_counter()
    vectors = got.encode(["a photo of a cat"])
    assert time.perf_counter() - started < 5
    assert got.identity == f"open_clip:{name}:tag"  # not of where it is kept
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, weights: {})
    expected = OpenClipTextEncoder(name, str(path), WIDTH).encode(["a photo of a cat"])
    assert torch.equal(vectors, expected)


def test_a_missing_open_clip_names_the_ways_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match=r"segic_d2\[text\].*META False.*TEXT.NAME table"):
        check_texts(open_clip_config("ViT-L-14-quickgelu", "openai"))
