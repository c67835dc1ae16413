"""Decoding without autograd against the decoder module by module."""

import pytest
import torch
from torch.nn import functional as F

from segic_d2.modeling.layers.mask_decoder import MaskDecoder
from segic_d2.modeling.layers.prompt_encoder import PromptEncoder
from segic_d2.modeling.segic.queries import Queries
from segic_d2.modeling.segic.shared_decoding import (
    _few_queries,
    decode_shared,
    entities_at_once,
    entity_decoder,
    share_image,
)
from tests.modeling.segic import parts
from tests.tiny import prototype_context


@pytest.fixture
def rng():
    torch.manual_seed(0)
    return torch.Generator().manual_seed(0)


def randomized(module):
    """Every parameter away from its initial zeros and ones, so that a forgotten bias shows."""
    for p in module.parameters():
        p.data += 0.2 * torch.randn_like(p)
    return module.requires_grad_(False)


def close(got, expected, share=1e-4):
    torch.testing.assert_close(got, expected, atol=share * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("missing", [True, False])
def test_shared_decoding_equals_the_decoder(rng, depth, images, dense, missing):
    width, side, count, prompts = 32, (6, 6), 5, 7
    decoder = randomized(MaskDecoder(width, depth, heads=4, mlp=48))
    encoder = randomized(PromptEncoder(width, 84, (7, 2)))
    image = torch.randn(images, width, *side, generator=rng)
    pos = encoder.pe_layer.grid(*side)
    index = torch.tensor([0, 0, images - 1, images - 1, images - 1])
    masks = torch.rand(count, 1, 84, 84, generator=rng)
    tokens = torch.randn(count, prompts, width, generator=rng)
    exists = torch.rand(count, prompts, generator=rng) > 0.3 if missing else None
    if dense:
        prompt, hidden = encoder.encode_masks(masks), encoder.mask_downscaling[:-1](masks)
        shared = share_image(decoder, image, pos, encoder.mask_downscaling[-1])
    else:
        prompt, hidden = encoder.no_mask(), None
        shared = share_image(decoder, image + encoder.no_mask(), pos)
    expected = decoder(image[index] + prompt, pos, tokens, exists)
    got = decode_shared(decoder, shared, index, hidden, tokens, exists)
    for a, b in zip(got, expected, strict=True):
        close(a, b)


def test_attention_of_few_queries_projects_no_image(rng):
    attention = randomized(MaskDecoder(32, 2, 4, 48).transformer.final_attn_token_to_image)
    tokens = torch.randn(3, 2, 32, generator=rng)
    image, pos = torch.randn(3, 36, 32, generator=rng), torch.randn(36, 32, generator=rng)
    expected = attention(tokens, image + pos, image)
    torch.testing.assert_close(_few_queries(attention, tokens, image, pos), expected)


def test_positions_are_upscaled_in_blocks_of_any_size(rng, monkeypatch):
    decoder = randomized(MaskDecoder(32, 2, 4, 48))
    image, pos = torch.randn(1, 32, 6, 6, generator=rng), torch.randn(32, 6, 6, generator=rng)
    tokens = torch.randn(3, 4, 32, generator=rng)
    arguments = share_image(decoder, image, pos), torch.zeros(3, dtype=torch.long), None, tokens
    whole = decode_shared(decoder, *arguments)[0]
    monkeypatch.setattr("segic_d2.modeling.segic.shared_decoding.BLOCK", 21)  # 7 of 36 per entity
    torch.testing.assert_close(decode_shared(decoder, *arguments)[0], whole)


def test_no_entity_at_all(rng):
    decoder = randomized(MaskDecoder(32, 2, 4, 48))
    shared = share_image(decoder, torch.zeros(1, 32, 6, 6), torch.zeros(32, 6, 6))
    index, tokens = torch.zeros(0, dtype=torch.long), torch.zeros(0, 4, 32)
    logits, quality = decode_shared(decoder, shared, index, None, tokens)
    assert logits.shape == (0, 24, 24) and quality.shape == (0,)


def paper_head(**options):
    """Of the paper's width and number of attention heads."""
    return randomized(parts.head(width=256, heads=8, mlp=2048, text_dim=8, **options))


@pytest.mark.parametrize("without", [(), ("dense",), ("point", "meta")])
def test_the_head_gives_the_same_with_and_without_autograd(rng, without):
    head = paper_head(without=without)
    features = torch.randn(2, 24, 8, 8, generator=rng)
    contexts = [
        prototype_context(
            torch.randn(n, 2, 24, generator=rng),
            torch.randn(n, 2, 24, generator=rng),
            torch.tensor([[True, False], [True, True], [True, True]])[:n],
            torch.randn(n, 8, generator=rng),
            list(range(n)),
            [None] * n,
        )
        for n in (3, 1)
    ]
    queries = Queries.from_contexts(contexts)
    arguments = features, [(112, 84), (98, 112)], queries
    crossing = torch.tensor([True, False])
    plain = head(*arguments, crossing=crossing)
    with torch.no_grad():
        for chunk in (0, 1, 3):
            quick = head(*arguments, crossing=crossing, chunk=chunk)
            # interpolated to the canvas and convolved there is less exact than from the cells
            close(quick.logits, plain.logits, 2e-4)
            close(quick.quality, plain.quality, 2e-4)


@torch.no_grad()
def test_autocast_decodes_plainly(rng):
    """Sums of the shared parts would be rounded to 8 bits; mixed precision keeps the modules'."""
    head = paper_head(without=["meta"])
    image = torch.randn(1, 256, 8, 8, generator=rng)

    def chosen():
        parts = head.prompt_encoder, head.mask_decoder
        return entity_decoder(*parts, image, dense=True, checkpoint=False).__name__

    assert chosen() == "quick"
    with torch.autocast("cpu", torch.bfloat16):
        assert chosen() == "plain"
    with torch.enable_grad():
        assert chosen() == "plain"


def test_as_many_entities_as_the_caches_hold():
    assert entities_at_once(torch.empty(2, 256, 64, 64)) == 4  # 16 MB of embeddings
    assert entities_at_once(torch.empty(2, 256, 64, 64, device="meta")) == 32
    assert entities_at_once(torch.empty(1, 256, 512, 512)) == 1


@pytest.mark.parametrize("maps", [1, 3])
def test_the_mask_encoder_sees_maps_of_cells_as_on_the_canvas(rng, maps):
    encoder = randomized(PromptEncoder(32, 84, (7, 2), maps))
    cells = torch.rand(4, maps, 6, 6, generator=rng)
    canvas = F.interpolate(cells, (84, 84), mode="bilinear", align_corners=False)
    expected = encoder.mask_downscaling[:-1](canvas)
    torch.testing.assert_close(encoder.hidden_masks(canvas), expected)
    torch.testing.assert_close(encoder.hidden_masks(cells), expected, atol=1e-5, rtol=1e-5)
