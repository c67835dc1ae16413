"""The mask decoder without autograd: what entities of an image share is computed once.

``MaskDecoder.forward`` in other words, with the same result to rounding; the modules' own
``forward`` and hooks run with autograd only. What makes it cheaper when many entities are decoded
in one image:

- Before the first layer, the image of an entity is the neck's output, common to all entities, plus
  a dense prompt of rank 16 (the last convolution of the mask encoder is 1×1 from 16 channels). The
  projections of the common part are computed once per image, those of the prompt from 16 channels.
- Positions enter keys and queries only, so that their projections are constants.
- Of the tokens that leave the decoder two are read, so that the final attention has two queries;
  with so few, projecting queries to image channels is cheaper than projecting the image to keys.
- The transposed convolutions have stride = kernel, so they are matrix products that keep image
  positions as rows; only the finished logits are put in their places.
- What happens to each position alone happens in blocks of positions that stay in the cache, and the
  two large tensors are overwritten instead of allocated anew: memory traffic, not arithmetic, is
  what many entities cost.

Shapes: B images, M entities, T tokens, L = g·g image positions, W width, I inner width of the
attention between tokens and image, D = 16 channels of the mask encoder.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as computed_again

from ..layers.mask_decoder import MaskDecoder
from ..layers.prompt_encoder import PromptEncoder
from ..layers.transformer import Attention, TwoWayLayer

CACHE_BYTES, DEVICE_BYTES = 2**24, 2**27
BLOCK = 2048  # image positions (over all entities) that are worked on at once


def shares(device: torch.device) -> bool:
    """Whether entities are decoded together: without autograd and in full precision."""
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled(device.type))


def entity_decoder(
    encoder: PromptEncoder,
    decoder: MaskDecoder,
    image: Tensor,
    dense: bool = True,
    checkpoint: bool = False,
) -> Callable[..., tuple[Tensor, Tensor]]:
    """How entities of targets with these neck's outputs (B, W, g, g) are decoded: with autograd
    plainly, without it shared. ``dense``: similarity maps are a dense prompt. ``checkpoint``:
    autograd keeps what goes in and computes the rest again when it needs it: the same gradients,
    less memory, more time.

    Returns:
        function of the target of each entity (M,), similarity maps (M, n, S, S), prompts (M, T, W)
            and which of them exist (M, T) → logits (M, 4g, 4g), quality (M,). Where it ``shares``
            the maps may be (M, n, g, g).
    """
    pos = encoder.pe_layer.grid(*image.shape[-2:])
    if not shares(image.device):

        def plain(
            index: Tensor, masks: Tensor, prompts: Tensor, exists: Tensor
        ) -> tuple[Tensor, Tensor]:
            prompt = encoder.encode_masks(masks) if dense else encoder.no_mask()
            return decoder(image[index] + prompt, pos, prompts, exists)

        if not (checkpoint and torch.is_grad_enabled()):
            return plain
        return partial(computed_again, plain, use_reentrant=False)
    if dense:
        *_, last = encoder.mask_downscaling
        shared = share_image(decoder, image, pos, last)
    else:
        shared = share_image(decoder, image + encoder.no_mask(), pos)

    def quick(
        index: Tensor, masks: Tensor, prompts: Tensor, exists: Tensor
    ) -> tuple[Tensor, Tensor]:
        hidden = encoder.hidden_masks(masks) if dense else None
        return decode_shared(decoder, shared, index, hidden, prompts, exists)

    return quick


@dataclass
class SharedImage:
    """What the entities of an image have in common.

    Attributes:
        image: float (B, L, W), the neck's output plus the constant part of the dense prompt.
        first: float (B, L, 3I), its keys, values and queries in the first layer.
        dense: float (W, D) and (3I, D), from the mask encoder's channels to the dense prompt and to
            its keys, values and queries; None: no prompt.
        later: per later layer the weight (3I, W) of keys, values and queries, and what they have in
            common (L, 3I): biases, and projections of the positions. pos: float (L, W), these.
        buffers: memory for the image embeddings (M, L, W) and projections (M, L, 3I) of entities.
    """

    image: Tensor
    first: Tensor
    dense: tuple[Tensor, Tensor] | None
    later: list[tuple[Tensor, Tensor]]
    pos: Tensor
    side: tuple[int, int]
    buffers: list[Tensor] = field(default_factory=list)

    def of(self, part: slice, index: Tensor) -> tuple[Tensor, Tensor]:
        """Some positions of ``image`` and ``first`` of each entity, (M, l, ·)."""
        if len(self.image) == 1:  # no copies
            return self.image[:, part], self.first[:, part]
        return self.image[index, part], self.first[index, part]

    def memory(self, count: int) -> list[Tensor]:
        """Uninitialised (count, L, W) and (count, L, 3I), the same ones at every call."""
        if not self.buffers or len(self.buffers[0]) < count:
            self.buffers = [x.new_empty(count, *x.shape[1:]) for x in (self.image, self.first)]
        return [x[:count] for x in self.buffers]


def entities_at_once(image: Tensor) -> int:
    """How many entities to decode together in images of the size of ``image`` (B, W, g, g). On the
    CPU as many as keep an embedding of all of them (W·g·g floats each) in the last cache, on other
    devices enough to keep them busy; memory stays bounded either way."""
    budget = CACHE_BYTES if image.device.type == "cpu" else DEVICE_BYTES
    return max(1, budget // (4 * image[0].numel()))


def share_image(
    decoder: MaskDecoder, image: Tensor, image_pos: Tensor, dense_conv: nn.Module | None = None
) -> SharedImage:
    """Prepare the decoding of any number of entities in images (B, W, g, g): the neck's output,
    plus the no-mask embedding without a prompt. ``dense_conv``: the 1×1 convolution that ends the
    mask encoder, of the prompt."""
    height, width = image.shape[-2:]
    image, pos = image.flatten(2).transpose(1, 2), image_pos.flatten(1).T  # (B, L, W), (L, W)
    layers: Any = decoder.transformer.layers
    joined, constant = _joined(layers[0], pos)
    dense = None
    if dense_conv is not None:
        kernel, bias = dense_conv.parameters()
        image, weight = image + bias, kernel.flatten(1)
        dense = weight, joined @ weight
    image = image.contiguous()
    return SharedImage(
        image=image,
        first=F.linear(image, joined) + constant,
        dense=dense,
        later=[_joined(layer, pos) for layer in layers[1:]],
        pos=pos.contiguous(),
        side=(height, width),
    )


def decode_shared(
    decoder: MaskDecoder,
    shared: SharedImage,
    index: Tensor,
    hidden: Tensor | None,
    prompts: Tensor,
    prompt_mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode M entities: logits (M, 4g, 4g) and quality (M,); see ``MaskDecoder.forward``.

    Args:
        index: int64 (M,), the target of each entity.
        hidden: float (M, D, g, g), before the mask encoder's last convolution; None: no dense
            prompts.
        prompts: float (M, T, W); prompt_mask: bool (M, T) or None.
    """
    transformer = decoder.transformer
    layers: Any = transformer.layers
    tokens, mask = decoder.tokens(prompts, prompt_mask)
    # attention without a mask is quicker; elsewhere than on a CPU the host would wait to learn it
    if mask is not None and mask.device.type == "cpu" and mask.all():
        mask = None
    token_pos = tokens
    image, projected = shared.memory(len(tokens))
    blocks = _blocks(*image.shape[:2])
    for part in blocks:
        own, own_projected = shared.of(part, index)
        if hidden is None or shared.dense is None:
            image[:, part], projected[:, part] = own, own_projected
        else:
            rows = hidden.flatten(2)[..., part].transpose(1, 2).contiguous()  # (M, l, D)
            dense, first_dense = shared.dense
            torch.add(F.linear(rows, dense), own, out=image[:, part])
            torch.add(F.linear(rows, first_dense), own_projected, out=projected[:, part])
    for layer, after in zip(layers, [*shared.later, None], strict=True):
        tokens, read = _attend(layer, tokens, token_pos, projected, mask)
        out = layer.cross_attn_image_to_token.out_proj
        for part in blocks:
            x = out(read[:, part].contiguous()).add_(image[:, part])
            x = image[:, part] = layer.norm4(x)
            if after is not None:
                weight, constant = after
                torch.add(F.linear(x, weight), constant[part], out=projected[:, part])
    tokens, token_pos = tokens[:, :2], token_pos[:, :2]  # the quality token and the mask's
    attention = transformer.final_attn_token_to_image
    update = _few_queries(attention, tokens + token_pos, image, shared.pos)
    tokens = transformer.norm_final_attn(tokens + update)
    weights = decoder.output_hypernetworks_mlps[0](tokens[:, 1])  # (M, W/8)
    logits = _upscaled(decoder.output_upscaling, image, weights, shared.side)
    return logits, decoder.iou_prediction_head(tokens[:, 0])[:, 0]


def _blocks(entities: int, positions: int) -> list[slice]:
    """Slices of the positions, of about BLOCK rows over all entities."""
    step = max(1, BLOCK // max(1, entities))
    return [slice(i, i + step) for i in range(0, positions, step)]


def _attend(
    layer: TwoWayLayer, tokens: Tensor, token_pos: Tensor, projected: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``TwoWayLayer.forward`` up to what the image reads from the tokens, unprojected (M, L, I)."""
    # ``projected`` holds the keys, values and queries of the image, (M, L, 3I)
    tokens = layer.attend_tokens(tokens, token_pos, mask)
    k, v, image_q = projected.chunk(3, -1)
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    q = to_image.q_proj(tokens + token_pos)
    tokens = layer.norm2(tokens + to_image.out_proj(to_image.attend(q, k, v)))
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    token_k, token_v = to_tokens.k_proj(tokens + token_pos), to_tokens.v_proj(tokens)
    return tokens, to_tokens.attend(image_q, token_k, token_v, mask)


def _joined(layer: TwoWayLayer, pos: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (3I, W) of the image's keys, values and queries, and what is added, (L, 3I)."""
    to_image, to_tokens = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    k, v, q = to_image.k_proj, to_image.v_proj, to_tokens.q_proj
    constant = torch.cat([k(pos), v.bias.expand(len(pos), -1), q(pos)], -1)
    return torch.cat([k.weight, v.weight, q.weight]), constant


def _few_queries(attention: Attention, tokens: Tensor, image: Tensor, pos: Tensor) -> Tensor:
    """``attention(tokens, image + pos, image)`` for few tokens (M, T, W): (M, T, W)."""
    # With q and k of a head, q·(K x) = (Kᵀq)·x: the queries go to the channels of the image, which
    # is never projected. Key biases shift all scores of a query alike: the softmax drops them.
    heads = attention.heads
    q = attention.q_proj(tokens).unflatten(-1, (heads, -1))  # (M, T, heads, d)
    k = attention.k_proj.weight.unflatten(0, (heads, -1))  # (heads, d, W)
    v = attention.v_proj.weight.unflatten(0, (heads, -1))
    q = torch.einsum("mthd,hdw->mthw", q, k).flatten(1, 2) / k.shape[1] ** 0.5
    scores = q @ image.transpose(1, 2) + q @ pos.T  # (M, T·heads, L)
    read = (scores.softmax(-1) @ image).unflatten(1, (-1, heads))  # (M, T, heads, W)
    out = torch.einsum("mthw,hdw->mthd", read, v).flatten(2) + attention.v_proj.bias
    return attention.out_proj(out)


def _upscaled(upscaling: Any, image: Tensor, weights: Tensor, side: tuple[int, int]) -> Tensor:
    """Mask logits (M, 4g, 4g) of image positions (M, L, W) and mask weights (M, W/8)."""
    first, norm, _, second, _ = upscaling
    first, second = _as_linear(first), _as_linear(second)
    parts = []
    for part in _blocks(*image.shape[:2]):
        x = F.linear(image[:, part].contiguous(), *first).unflatten(-1, (4, -1))  # (M, l, 4, W/4)
        x = F.gelu(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))
        x = F.gelu(F.linear(x, *second)).unflatten(-1, (4, -1))  # (M, l, 4, 4, W/8)
        parts.append(x.flatten(1, 3) @ weights[..., None])  # (M, 16·l, 1)
    logits = torch.cat(parts, 1)
    height, width = side
    logits = logits.view(-1, height, width, 2, 2, 2, 2)  # rows and columns, coarse to fine
    return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * height, 4 * width)


def _as_linear(conv: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight (k²·C_out, C_in) and bias of a transposed convolution whose stride is its kernel."""
    kernel, bias = conv.parameters()
    inputs, outputs, k, _ = kernel.shape
    weight = kernel.permute(2, 3, 1, 0).reshape(k * k * outputs, inputs)
    return weight, bias.repeat(k * k)
