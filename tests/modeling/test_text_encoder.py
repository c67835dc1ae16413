import shutil

import pytest
import torch

from segic_d2.modeling.text_encoder import (
    OpenClipTextEncoder,
    TableTextEncoder,
    build_text_encoder,
    save_text_table,
)
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


def test_open_clip_gives_the_end_of_text_token_before_the_projection(tmp_path):
    """Against the plain formula, from a weight file, with the smallest CLIP of the library."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    name = "ViT-M-32-alt"
    model = open_clip.create_model(name)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    width = model.ln_final.normalized_shape[0]
    encoder = OpenClipTextEncoder(name, str(tmp_path / "clip.pt"), width)
    texts = ["a photo of a cat", "", "a photo of a cat"]
    got = encoder.encode(texts)
    tokens = open_clip.get_tokenizer(name)(texts)
    assert tokens.shape[1] == 77
    with torch.no_grad():
        x = model.token_embedding(tokens) + model.positional_embedding
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask))
    expected = x[torch.arange(3), tokens.argmax(1)]  # the end-of-text token has the largest id
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert torch.equal(got[0], got[2])
    with pytest.raises(ValueError, match=f"length {width}, MODEL.SEGIC.TEXT.DIM is 768"):
        OpenClipTextEncoder(name, "", 768).encode(texts)
    with pytest.raises(ValueError, match="'ViT-0' is no open_clip model"):
        OpenClipTextEncoder("ViT-0", "", 768).encode(texts)
