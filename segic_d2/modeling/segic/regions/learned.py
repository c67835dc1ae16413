"""A learned choice among regions: what the evidence adds to the logits of the untrained choice.

Regions of a target are tokens that attend to each other, more to those that look alike. A new
network adds nothing.

Shapes: N entities, n cells of the target, R fine regions, E and F channels of a cell's and a
region's evidence, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers.precision import without_autocast
from .evidence import CELL, TOKEN, Evidence, region_tokens

MOST = 8.0  # what is added to a logit, at most


class LearnedChoice(nn.Module):
    """What is added to the logits of cells, by the regions that they lie in and by themselves.

    Args:
        width, depth, heads: W, layers of attention (0: each region by itself), and their heads.
        by_cells: also by what a cell is beside its region's mean.
    """

    def __init__(
        self, width: int = 48, depth: int = 2, heads: int = 4, by_cells: bool = True
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(TOKEN))  # of the training's tokens
        self.register_buffer("scale", torch.ones(TOKEN))
        self.embed = nn.Sequential(nn.Linear(TOKEN, width), nn.GELU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.say = nn.Linear(width, 1)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)
        self.cells: nn.Sequential | None = None
        if by_cells:
            last = nn.Linear(width // 2, 1)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.cells = nn.Sequential(
                nn.Linear(2 * len(CELL) + width, width // 2), nn.GELU(), last
            )

    @without_autocast
    def forward(self, x: Evidence) -> Tensor:
        """What is added to the logits (N, n) of a target."""
        tokens, fine = region_tokens(x), x.labels[1]
        exists = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        alike = x.alike.expand(len(tokens), -1, -1)
        own = x.cells, fine.expand(len(tokens), -1)
        return self.added(tokens, alike, exists, *own)

    def added(
        self,
        tokens: Tensor,
        alike: Tensor,
        exists: Tensor,
        cells: Tensor | None = None,
        fine: Tensor | None = None,
    ) -> Tensor:
        """The same of N entities of different targets: tokens (N, R, F), cosines (N, R, R), which
        regions exist (N, R), evidence of cells (N, n, E) and their regions int64 (N, n); without
        cells, what is added to regions, (N, R)."""
        hidden = self.embed((tokens - self.mean) / self.scale)
        for layer in self.layers:
            hidden = layer(hidden, alike, exists)
        hidden = self.norm(hidden)
        found = self.say(hidden)[..., 0]
        if fine is not None:
            found = found.gather(1, fine)
        if self.cells is not None and cells is not None and fine is not None:
            around = tokens[..., : len(CELL)].gather(1, _rows(fine, len(CELL)))
            above = hidden.gather(1, _rows(fine, hidden.shape[2]))
            found = found + self.cells(torch.cat([cells, cells - around, above], 2))[..., 0]
        return MOST * (found / MOST).tanh()


def _rows(index: Tensor, width: int) -> Tensor:
    return index[..., None].expand(-1, -1, width)


class _Layer(nn.Module):
    """Attention among regions, by likeness as well, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.likeness = nn.Parameter(torch.linspace(0, 4, heads))
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor, alike: Tensor, exists: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in self.into(self.first(tokens)).chunk(3, 2)
        )
        bias = self.likeness[:, None, None] * alike[:, None]  # (N, heads, R, R)
        bias = bias.masked_fill(~exists[:, None, None], -torch.inf)
        found = F.scaled_dot_product_attention(q, k, v, bias)
        tokens = tokens + self.out(found.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.second(tokens))
