"""The network of SegGPT and Painter: a plain ViT over two canvases, and a head that paints.

A canvas is two squares, the prompt above the target. One canvas holds pictures, the other colours,
of which the unknown are hidden. Names of tensors are those of the released checkpoint. The code
that was released asks for windows and gets none: attention is global in every block.

Shapes: S side of a square (px), p patch, h×w the grid of a canvas, C width, B canvases, in groups
of K prompts above one target.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from detectron2.layers import get_norm
from detectron2.modeling.backbone.utils import PatchEmbed, get_abs_pos, get_rel_pos
from detectron2.modeling.backbone.vit import Attention, Block
from torch import Tensor, nn
from torch.nn import functional as F

TYPES = ("semantic", "instance")  # tasks, in the order of the type tokens


class FusedAttention(Attention):
    """Detectron2's attention with relative positions, by ``scaled_dot_product_attention``."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, h, w, C) → (B, h, w, C)."""
        batch, height, width, channels = x.shape
        parts = self.qkv(x).reshape(batch, height * width, 3, self.num_heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, hw, C / heads)
        rows = q.unflatten(2, (height, width))  # queries are not scaled here
        up = get_rel_pos(height, height, self.rel_pos_h).to(q.dtype)
        side = get_rel_pos(width, width, self.rel_pos_w).to(q.dtype)
        up = torch.einsum("bnhwc,hkc->bnhwk", rows, up)[..., None]
        side = torch.einsum("bnhwc,wkc->bnhwk", rows, side)[..., None, :]
        bias = (up + side).flatten(4).flatten(2, 3).to(q.dtype)  # (B, heads, hw, hw)
        out = F.scaled_dot_product_attention(q, k, v, bias, scale=self.scale)
        out = out.transpose(1, 2).reshape(batch, height, width, channels)
        return self.proj(out)


class EnsembleBlock(Block):
    """A block whose targets see the prompts of all canvases of their group: what attention says of
    the lower half is averaged over the K of a group, before the residual sum."""

    def __init__(self, dim: int, num_heads: int, **options: object) -> None:
        super().__init__(dim, num_heads, use_rel_pos=True, **options)
        grid = options["input_size"]
        self.attn = FusedAttention(dim, num_heads, use_rel_pos=True, input_size=grid)

    def forward(self, x: Tensor, group: int = 1) -> Tensor:
        """(n·K, h, w, C) → the same; ``group``: K, canvases of a group lie side by side."""
        seen = self.attn(self.norm1(x))
        if group > 1:
            half = x.shape[1] // 2
            lower = seen[:, half:].unflatten(0, (-1, group))  # (n, K, h/2, w, C)
            lower = lower.mean(1, keepdim=True).expand_as(lower).flatten(0, 1)
            seen = torch.cat([seen[:, :half], lower], 1)
        x = x + self.drop_path(seen)
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PaintingViT(nn.Module):
    """Paints what is hidden on the canvases of colours.

    Args:
        side: S that the tables of relative positions are for; pictures may have any other.
        patch: p. width: C. depth: blocks. heads: of attention.
        taps: 0-based blocks that the head sees. merge: block after which the streams of pictures
            and of colours become one.
        decoder: channels of the head. drop_path: of the last block, 0 at the first.
        positions: side of the table of absolute positions.
        type_tokens: the task is told (SegGPT), or not (Painter).
        alike: untrained, patches attend to what looks like them: queries start as keys.
    """

    def __init__(
        self,
        *,
        side: int = 448,
        patch: int = 16,
        width: int = 1024,
        depth: int = 24,
        heads: int = 16,
        taps: Sequence[int] = (5, 11, 17, 23),
        merge: int = 2,
        decoder: int = 64,
        drop_path: float = 0.1,
        positions: int = 14,
        type_tokens: bool = True,
        alike: bool = False,
    ) -> None:
        super().__init__()
        if not taps or max(taps) >= depth or not 0 <= merge < depth or min(taps) <= merge:
            raise ValueError(
                f"MODEL.SEGGPT.TAPS {tuple(taps)} must lie between MERGE {merge} and DEPTH {depth}"
            )
        self.patch, self.merge, self.taps = patch, merge, tuple(taps)
        names = ["mask_token", "segment_token_x", "segment_token_y"]
        for name in names + ["type_token_cls", "type_token_ins"] * type_tokens:
            setattr(self, name, nn.Parameter(torch.randn(1, 1, 1, width) * 0.02))
        self.type_tokens = type_tokens
        self.pos_embed = nn.Parameter(torch.zeros(1, positions**2 + 1, width))
        self.patch_embed = PatchEmbed((patch, patch), (patch, patch), embed_dim=width)
        norm = partial(nn.LayerNorm, eps=1e-6)
        grid = 2 * side // patch, side // patch
        rates = [drop_path * i / max(depth - 1, 1) for i in range(depth)]
        self.blocks = nn.ModuleList(
            EnsembleBlock(width, heads, drop_path=rate, norm_layer=norm, input_size=grid)
            for rate in rates
        )
        self.norm = norm(width)
        self.decoder_embed = nn.Linear(width * len(taps), patch**2 * decoder)
        self.decoder_pred = nn.Sequential(
            nn.Conv2d(decoder, decoder, 3, padding=1),
            get_norm("LN", decoder),
            nn.GELU(),
            nn.Conv2d(decoder, 3, 1),
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.64 / width**0.5)  # 0.02 of ViT-L
                nn.init.zeros_(module.bias)
        for block in self.blocks if alike else ():
            block.attn.qkv.weight.data[width : 2 * width] = block.attn.qkv.weight.data[:width]

    def forward(
        self,
        pictures: Tensor,
        colours: Tensor,
        masked: Tensor,
        types: Tensor | None = None,
        group: int = 1,
    ) -> Tensor:
        """Paint the colours of B canvases: float (B, 3, 2S, S), in the normalised space.

        Args:
            pictures, colours: float (B, 3, 2S, S), normalised.
            masked: bool (B, h, w), or (1, h, w) of all, patches whose colours are hidden.
            types: int64 (B,), rows of ``TYPES``; ignored without type tokens.
            group: K, canvases side by side that show one target to different prompts (feature
                ensemble); 1: each is by itself.

        Returns:
            float (B, 3, 2S, S), in the normalised space.
        """
        x = self.tokens(pictures, colours, masked, types)  # (2B, h, w, C)
        found = []
        for i, block in enumerate(self.blocks):
            x = block(x, group)
            if i == self.merge:
                x = x.unflatten(0, (2, -1)).mean(0)
            if i in self.taps:
                found.append(self.norm(x))
        x = self.decoder_embed(torch.cat(found, -1))  # (B, h, w, p·p·D)
        batch, height, width, _ = x.shape
        x = x.reshape(batch, height, width, self.patch, self.patch, -1)
        x = x.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # (B, D, 2S, S)
        return self.decoder_pred(x)

    def tokens(
        self, pictures: Tensor, colours: Tensor, masked: Tensor, types: Tensor | None
    ) -> Tensor:
        """What the first block sees: B streams of pictures, then B of colours, (2B, h, w, C)."""
        dtype = self.patch_embed.proj.weight.dtype
        x, y = self.patch_embed(pictures.to(dtype)), self.patch_embed(colours.to(dtype))
        y = torch.where(masked[..., None], self.mask_token.to(y.dtype), y)
        place = get_abs_pos(self.pos_embed, True, x.shape[1:3])
        x, y = x + self.segment_token_x + place, y + self.segment_token_y + place
        if self.type_tokens:
            if types is None:
                raise ValueError("types are needed where there are type tokens")
            known = torch.cat([self.type_token_cls, self.type_token_ins])  # (2, 1, 1, C)
            x, y = x + known[types], y + known[types]
        return torch.cat([x, y])
