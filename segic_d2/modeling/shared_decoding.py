"""The mask decoder without autograd: what entities of an image share is computed once.

``MaskDecoder.forward`` in other words, with the same result to rounding. Three facts make it
cheaper when many entities are decoded in one image:

- Before the first layer, the image of an entity is the neck's output, common to all entities, plus
  a dense prompt of rank 16 (the last convolution of the mask encoder is 1×1 from 16 channels). The
  projections of the common part are computed once per image, those of the prompt from 16 channels.
- Positions enter keys and queries only, so that their projections are constants.
- Of the tokens that leave the decoder two are read, so that the final attention has two queries;
  with so few, projecting queries to image channels is cheaper than projecting the image to keys.
- The transposed convolutions have stride = kernel, so they are matrix products that keep image
  positions as rows; only the finished logits are put in their places.

Shape shorthand: B images, M entities, T tokens, L = g·g image positions, W width, I inner width of
the attention between tokens and image, D = 16 channels of the mask encoder.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

CACHE_BYTES, DEVICE_BYTES = 2**24, 2**27
BLOCK = 1024  # image positions upscaled at once, ×16 at the end: what stays in the cache


@dataclass
class SharedImage:
    """What the entities of an image have in common.

    Attributes:
        image: float (B, L, W), the neck's output plus the constant part of the dense prompt.
        first: float (B, L, 3I), its keys, values and queries in the first layer.
        dense: float (W, D), from the mask encoder's channels to the dense prompt; None: no prompt.
        first_dense: float (3I, D), from those channels to keys, values and queries.
        later: (L, 3I) per later layer, biases and the projections of the positions.
        pos: float (L, W), the positions.
        side: (g, g).
    """

    image: torch.Tensor
    first: torch.Tensor
    dense: torch.Tensor | None
    first_dense: torch.Tensor | None
    later: list
    pos: torch.Tensor
    side: tuple

    def of(self, index):
        """``image`` and ``first`` of each entity, (M, L, ·); one row where there is one image."""
        if len(self.image) == 1:
            return self.image, self.first
        return self.image[index], self.first[index]


def entities_at_once(image):
    """How many entities to decode together in images of the size of ``image`` (B, W, g, g).

    On the CPU as many as keep an embedding of all of them (W·g·g floats each) in the last cache, on
    other devices enough to keep them busy; memory stays bounded either way.
    """
    budget = CACHE_BYTES if image.device.type == "cpu" else DEVICE_BYTES
    return max(1, budget // (4 * image[0].numel()))


def share_image(decoder, image, image_pos, dense_conv=None):
    """Prepare the decoding of any number of entities.

    Args:
        decoder: ``MaskDecoder``.
        image: float (B, W, g, g), the neck's output, plus the no-mask embedding without a prompt.
        image_pos: float (W, g, g).
        dense_conv: the 1×1 convolution that ends the mask encoder, or None.

    Returns:
        SharedImage.
    """
    side = image.shape[-2:]
    image, pos = image.flatten(2).transpose(1, 2), image_pos.flatten(1).T  # (B, L, W), (L, W)
    dense = None
    if dense_conv is not None:
        image, dense = image + dense_conv.bias, dense_conv.weight.flatten(1)
    image = image.contiguous()
    transformer = decoder.transformer
    weight, bias = _joined(transformer.layers[0], pos)
    return SharedImage(
        image=image,
        first=F.linear(image, weight) + bias,
        dense=dense,
        first_dense=None if dense is None else weight @ dense,
        later=[_joined(layer, pos)[1] for layer in transformer.layers[1:]],
        pos=pos.contiguous(),
        side=tuple(side),
    )


def decode_shared(decoder, shared, index, hidden, prompts, prompt_mask=None):
    """Decode M entities; see ``MaskDecoder.forward``.

    Args:
        decoder: ``MaskDecoder``.
        shared: ``share_image`` of the targets.
        index: int64 (M,), the target of each entity.
        hidden: float (M, D, g, g), the mask encoder's output before its last convolution; None
            without dense prompts.
        prompts: float (M, T, W); prompt_mask: bool (M, T) or None.

    Returns:
        mask logits (M, 4g, 4g) and quality estimates (M,).
    """
    transformer = decoder.transformer
    tokens, mask = decoder.tokens(prompts, prompt_mask)
    if mask is not None and mask.all():
        mask = None  # attention without a mask is quicker
    token_pos = tokens
    image, projected = shared.of(index)
    if hidden is not None:
        hidden = hidden.flatten(2).transpose(1, 2).contiguous()  # (M, L, D)
        projected = F.linear(hidden, shared.first_dense).add_(projected)
        image = F.linear(hidden, shared.dense).add_(image)
    for number, layer in enumerate(transformer.layers):
        if number:
            projected = F.linear(image, _joined_weight(layer)).add_(shared.later[number - 1])
        tokens, image = _layer(layer, tokens, token_pos, image, projected, mask)
    tokens, token_pos = tokens[:, :2], token_pos[:, :2]  # the quality token and the mask's
    attention = transformer.final_attn_token_to_image
    update = _few_queries(attention, tokens + token_pos, image, shared.pos)
    tokens = transformer.norm_final_attn(tokens + update)
    weights = decoder.output_hypernetworks_mlps[0](tokens[:, 1])  # (M, W/8)
    logits = _upscaled(decoder.output_upscaling, image, weights, shared.side)
    return logits, decoder.iou_prediction_head(tokens[:, 0])[:, 0]


def _layer(layer, tokens, token_pos, image, projected, mask):
    """``TwoWayLayer.forward`` with the keys, values and queries of the image given, (·, L, 3I)."""
    tokens = layer.attend_tokens(tokens, token_pos, mask)
    k, v, image_q = _rows(len(tokens), *projected.chunk(3, -1))
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    q = to_image.q_proj(tokens + token_pos)
    tokens = layer.norm2(tokens + to_image.out_proj(to_image.attend(q, k, v)))
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    token_k, token_v = to_tokens.k_proj(tokens + token_pos), to_tokens.v_proj(tokens)
    update = to_tokens.out_proj(to_tokens.attend(image_q, token_k, token_v, mask))
    return tokens, layer.norm4(update.add_(image))


def _rows(count, *tensors):
    """Tensors (1 or M, …) as views of ``count`` rows."""
    return [x.expand(count, -1, -1) for x in tensors]


def _joined_weight(layer):
    """Weights (3I, W) of the image's keys and values (for tokens) and queries (to tokens)."""
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    return torch.cat([to_image.k_proj.weight, to_image.v_proj.weight, to_tokens.q_proj.weight])


def _joined(layer, pos):
    """``_joined_weight`` and what is added to its products, (L, 3I)."""
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    k, q = to_image.k_proj(pos), to_tokens.q_proj(pos)
    return _joined_weight(layer), torch.cat([k, to_image.v_proj.bias.expand_as(k), q], -1)


def _few_queries(attention, tokens, image, pos):
    """``attention(tokens, image + pos, image)`` for few tokens (M, T, W): (M, T, W).

    With q and k of a head, q·(K x) = (Kᵀq)·x: the queries go to the channels of the image (M, L, W)
    or (1, L, W) and the image is never projected. Key biases shift all scores of a query alike, so
    that the softmax drops them.
    """
    heads = attention.heads
    q = attention.q_proj(tokens).unflatten(-1, (heads, -1))  # (M, T, heads, d)
    k = attention.k_proj.weight.unflatten(0, (heads, -1))  # (heads, d, W)
    v = attention.v_proj.weight.unflatten(0, (heads, -1))
    q = torch.einsum("mthd,hdw->mthw", q, k).flatten(1, 2) / k.shape[1] ** 0.5
    scores = q @ image.transpose(1, 2) + q @ pos.T  # (M, T·heads, L)
    read = (scores.softmax(-1) @ image).unflatten(1, (-1, heads))  # (M, T, heads, W)
    out = torch.einsum("mthw,hdw->mthd", read, v).flatten(2) + attention.v_proj.bias
    return attention.out_proj(out)


def _upscaled(upscaling, image, weights, side):
    """Mask logits (M, 4g, 4g) of image positions (M, L, W) and mask weights (M, W/8)."""
    first, norm, _, second, _ = upscaling
    first, second = _as_linear(first), _as_linear(second)
    parts = []
    for rows in image.split(max(1, BLOCK // len(image)), dim=1):
        x = F.linear(rows.contiguous(), *first).unflatten(-1, (4, -1))  # (M, l, 4, W/4)
        x = F.gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
        x = F.gelu(F.linear(x, *second)).unflatten(-1, (4, -1))  # (M, l, 4, 4, W/8)
        parts.append(x.flatten(1, 3) @ weights[..., None])  # (M, 16·l, 1)
    logits = torch.cat(parts, 1)
    height, width = side
    logits = logits.view(-1, height, width, 2, 2, 2, 2)  # rows and columns, coarse to fine
    return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * height, 4 * width)


def _as_linear(conv):
    """Weight (k²·C_out, C_in) and bias of a transposed convolution whose stride is its kernel."""
    inputs, outputs, k, _ = conv.weight.shape
    weight = conv.weight.permute(2, 3, 1, 0).reshape(k * k * outputs, inputs)
    return weight, conv.bias.repeat(k * k)
