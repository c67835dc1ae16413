"""Everything after the backbone as the released code does it, written out plainly.

It is the slow, obvious way to the same outputs, for ``benchmark.py`` and its test. Target features
are upsampled to a quarter of the canvas before the cosine, and the map is upsampled to the canvas.
All entities go through the decoder in one call. Attention is an explicit softmax. Four masks are
computed, of which one is used.

Shape shorthand: N entities of one target, C feature channels, S canvas side (px), g grid side.
"""

import torch
from torch.nn import functional as F


@torch.no_grad()
def released_route(head, features, queries, stage):
    """Decode the entities of one target.

    Args:
        head: ``InContextMaskHead`` with the released rules.
        features: float (1, C, g, g).
        queries: ``Queries`` of N entities, one vector of unit length each.
        stage: function of a name; it returns a context manager around that stage.

    Returns:
        mask logits (N, 4g, 4g) and logits at canvas size (N, S, S).
    """
    canvas, count = (head.canvas, head.canvas), len(queries)
    quarter = (head.canvas // 4, head.canvas // 4)
    with stage("similarity"):
        up = F.interpolate(features, size=quarter, mode="bilinear", align_corners=False)
        up = up / up.norm(dim=1, keepdim=True).clamp(min=1e-8)  # (1, C, S/4, S/4)
        maps = torch.einsum("nc,bchw->nbhw", queries.vectors[:, 0], up)
        del up
        full = F.interpolate(maps, size=canvas, mode="bilinear", align_corners=False)
    with stage("prompts"):
        best = full.flatten(1).argmax(1)
        xy = torch.stack([best % canvas[1], best // canvas[1]], -1)[:, None].float()
        encoder = head.prompt_encoder
        point = encoder.encode_points(xy, torch.ones_like(best)[:, None])
        crossing = torch.ones(1, dtype=torch.bool, device=features.device)
        rows = torch.arange(count, device=features.device)
        context, _ = head.context_tokens(queries, crossing, rows, head.project(queries))
        prompts = torch.cat([point, encoder.no_point(count), context], 1)
        dense = encoder.encode_masks(full)  # (N, W, g, g)
    with stage("neck"):
        image = head.neck(features)
    with stage("decoder"):
        logits = _decode(head, image.repeat(count, 1, 1, 1) + dense, prompts)
    with stage("masks"):
        masks = F.interpolate(logits[:, None], size=canvas, mode="bilinear", align_corners=False)
    return logits, masks[:, 0]


def _decode(head, image, prompts):
    decoder, transformer = head.mask_decoder, head.mask_decoder.transformer
    count, _, height, width = image.shape
    learned = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([learned.expand(count, -1, -1), prompts], 1)
    token_pos = tokens
    image = image.flatten(2).transpose(1, 2)  # (N, g·g, W)
    image_pos = head.prompt_encoder.pe_layer.grid(height, width).flatten(1).T[None]
    for layer in transformer.layers:
        if layer.first:
            tokens = _attention(layer.self_attn, tokens, tokens, tokens)
        else:
            q = tokens + token_pos
            tokens = tokens + _attention(layer.self_attn, q, q, tokens)
        tokens = layer.norm1(tokens)
        q, k = tokens + token_pos, image + image_pos
        tokens = layer.norm2(tokens + _attention(layer.cross_attn_token_to_image, q, k, image))
        tokens = layer.norm3(tokens + layer.mlp(tokens))
        k, q = tokens + token_pos, image + image_pos
        image = layer.norm4(image + _attention(layer.cross_attn_image_to_token, q, k, tokens))
    q, k = tokens + token_pos, image + image_pos
    tokens = tokens + _attention(transformer.final_attn_token_to_image, q, k, image)
    tokens = transformer.norm_final_attn(tokens)
    up = decoder.output_upscaling(image.transpose(1, 2).reshape(count, -1, height, width))
    mlps = enumerate(decoder.output_hypernetworks_mlps, 1)
    weights = torch.stack([mlp(tokens[:, i]) for i, mlp in mlps], 1)  # (N, 4, W/8)
    decoder.iou_prediction_head(tokens[:, 0])
    return (weights @ up.flatten(2)).unflatten(2, up.shape[-2:])[:, 0]


def _attention(attention, q, k, v):
    """Multi-head attention with its weights written out."""
    q, k, v = (
        proj(x).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for proj, x in ((attention.q_proj, q), (attention.k_proj, k), (attention.v_proj, v))
    )
    weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
    return attention.out_proj((weights @ v).transpose(1, 2).flatten(2))
