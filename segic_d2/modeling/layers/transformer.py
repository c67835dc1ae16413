"""The two-way transformer between tokens and image (supplement Alg. 1; Segment Anything's layout).

Shape shorthand: M entities, T tokens, L image positions, W width.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention whose inner width may be smaller than that of its inputs."""

    def __init__(self, width: int, heads: int, downsample: int = 1) -> None:
        super().__init__()
        inner = width // downsample
        if inner % heads:
            raise ValueError(f"attention width {inner} is not a multiple of {heads} heads")
        self.heads = heads
        self.q_proj = nn.Linear(width, inner)
        self.k_proj = nn.Linear(width, inner)
        self.v_proj = nn.Linear(width, inner)
        self.out_proj = nn.Linear(inner, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attend from q (M, Q, W) to k, v (M, K, W); key_mask bool (M, K): which exist."""
        x = self.attend(self.q_proj(q), self.k_proj(k), self.v_proj(v), key_mask)
        return self.out_proj(x)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """Attention between projected q (M, Q, I), k, v (M, K, I) → (M, Q, I), not projected."""
        q, k, v = (
            x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (M, heads, ·, I/heads)
            for x in (q, k, v)
        )
        mask = None if key_mask is None else key_mask[:, None, None, :]
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return x.transpose(1, 2).flatten(2)


class TokenMLP(nn.Module):
    """Two linear layers with a ReLU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(width, hidden)
        self.lin2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin2(F.relu(self.lin1(x)))


class TwoWayLayer(nn.Module):
    """Token self-attention, tokens to image, MLP, image to tokens; each followed by a LayerNorm.

    Positions are added to queries and keys, never to values. The first layer's self-attention
    has neither positions nor a residual.
    """

    def __init__(self, width: int, heads: int, mlp: int, downsample: int, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width)
        self.cross_attn_token_to_image = Attention(width, heads, downsample)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = TokenMLP(width, mlp)
        self.norm3 = nn.LayerNorm(width)
        self.cross_attn_image_to_token = Attention(width, heads, downsample)
        self.norm4 = nn.LayerNorm(width)

    def forward(
        self,
        tokens: Tensor,
        image: Tensor,
        token_pos: Tensor,
        image_pos: Tensor,
        token_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """tokens (M, T, W), image (M, L, W) and their positions → updated tokens, image."""
        tokens = self.attend_tokens(tokens, token_pos, token_mask)
        keys = image + image_pos
        tokens = tokens + self.cross_attn_token_to_image(tokens + token_pos, keys, image)
        tokens = self.norm2(tokens)
        tokens = self.norm3(tokens + self.mlp(tokens))
        update = self.cross_attn_image_to_token(keys, tokens + token_pos, tokens, token_mask)
        return tokens, self.norm4(image + update)

    def attend_tokens(
        self, tokens: Tensor, token_pos: Tensor, token_mask: Tensor | None = None
    ) -> Tensor:
        """Tokens (M, T, W) after their self-attention."""
        if self.first:
            return self.norm1(self.self_attn(tokens, tokens, tokens, token_mask))
        q = tokens + token_pos
        return self.norm1(tokens + self.self_attn(q, q, tokens, token_mask))


class TwoWayTransformer(nn.Module):
    """``depth`` two-way layers and a last attention from tokens to image."""

    def __init__(
        self, width: int = 256, depth: int = 2, heads: int = 8, mlp: int = 2048, downsample: int = 2
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayLayer(width, heads, mlp, downsample, first=i == 0) for i in range(depth)
        )
        self.final_attn_token_to_image = Attention(width, heads, downsample)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, image: Tensor, image_pos: Tensor, token_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """tokens (M, T, W), their own positions throughout, image (M, L, W) with its positions
        (1, L, W) and which tokens exist, bool (M, T) → updated tokens, image."""
        token_pos = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pos, image_pos, token_mask)
        q = tokens + token_pos
        tokens = tokens + self.final_attn_token_to_image(q, image + image_pos, image)
        return self.norm_final_attn(tokens), image
