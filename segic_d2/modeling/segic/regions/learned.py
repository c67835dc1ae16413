"""A learned choice among regions: what their evidence adds to the logits of the untrained choice.

It says which regions, not how much: the expected size of a mask stays, to first order, what the
untrained choice takes. How many cells a thing has and how sure one can be of it differs between
training's pictures and others more than what tells a thing from what is beside it.

Shapes: N entities, n cells of the target, R fine regions, E and F channels of a cell's and a
region's evidence, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from ....utils.files import write_whole
from ....utils.remote import first_line
from ...layers.precision import without_autocast
from .evidence import CELL, TOKEN, Evidence, region_tokens
from .linkage import region_means

EMBEDDED = Path(__file__).parents[3] / "weights" / "choice-embedded.safetensors"
KEY = "MODEL.SEGIC.REGIONS.LEARNED"
MOST = 8.0  # what is added to a logit before the size is held, at most


@dataclass
class Regions:
    """Regions of N entities, of different targets where they are padded: ``tokens`` (N, R, F),
    cosines ``alike`` (N, R, R), how many cells they are, ``count`` (N, R), 0 for padding, and the
    logits of the untrained choice, ``level`` (N, R)."""

    tokens: Tensor
    alike: Tensor
    count: Tensor
    level: Tensor


class LearnedChoice(nn.Module):
    """What is added to the logits of cells. A new network adds exactly nothing.

    Args:
        width: W. depth, heads: layers of attention among the regions of a target; 0: each is
            judged by itself, beside the best one.
        by_cells: a cell also has what it is beside its region's mean.

    It comes from a file of its own, as the whitening does: checkpoints do not hold it.
    """

    frozen = True
    mean: Tensor
    scale: Tensor

    def __init__(
        self, width: int = 64, depth: int = 0, heads: int = 4, by_cells: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(TOKEN))  # of the training's tokens
        self.register_buffer("scale", torch.ones(TOKEN))
        self.embed = nn.Sequential(nn.Linear(TOKEN, width), nn.GELU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.norm, self.say = nn.LayerNorm(width), _silent(width)
        self.cells: nn.Sequential | None = None
        if by_cells:
            first = nn.Linear(2 * len(CELL) + width, width // 2)
            self.cells = nn.Sequential(first, nn.GELU(), _silent(width // 2))

    @classmethod
    def from_file(cls, path: str | Path) -> LearnedChoice:
        """The network of a file, "embedded": that which ships; nothing of it is trained further.
        FileNotFoundError: no such file; ValueError: it holds something else."""
        file = EMBEDDED if path == "embedded" else Path(path)
        if not file.is_file():
            raise FileNotFoundError(f"{KEY} {file}: no such file")
        try:
            state = {name: x.float() for name, x in load_file(str(file)).items()}
            depth = len({name.split(".")[1] for name in state if name.startswith("layers.")})
            by_cells = "cells.0.weight" in state
            found = cls(len(state["embed.0.weight"]), depth, by_cells=by_cells)
            found.load_state_dict(state, assign=True)
        except (SafetensorError, KeyError, RuntimeError) as error:
            told = f"{KEY} {file} holds no learned choice: {first_line(error)}"
            raise ValueError(told) from error
        return found.eval().requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write the network for ``MODEL.SEGIC.REGIONS.LEARNED``."""
        write_whole(path, save({k: v.cpu().contiguous() for k, v in self.state_dict().items()}))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a checkpoint without it leaves this one as it is: nothing of it is missing there
        if not any(name.startswith(prefix) for name in state_dict):
            state_dict.update(self.state_dict(prefix=prefix))
        super()._load_from_state_dict(state_dict, prefix, *args)

    @without_autocast
    def forward(self, x: Evidence) -> Tensor:
        """What is added to the logits (N, n) of a target."""
        tokens, fine = region_tokens(x), x.labels[1]
        level, count = region_means(x.base, fine)
        alike, rows = x.alike.expand(len(tokens), -1, -1), fine.expand(len(tokens), -1)
        regions = Regions(tokens, alike, count.expand_as(level), level)
        return self.added(regions, rows, x.cells if self.cells is not None else None)

    def added(self, x: Regions, fine: Tensor | None = None, cells: Tensor | None = None) -> Tensor:
        """What is added to the logits of regions (N, R), or of cells (N, n) whose regions ``fine``
        are known, int64 (N, n), with their evidence ``cells`` (N, n, E)."""
        hidden = self.embed((x.tokens - self.mean) / self.scale)
        for layer in self.layers:
            hidden = layer(hidden, x.alike, x.count > 0)
        hidden = self.norm(hidden)
        found = MOST * (self.say(hidden)[..., 0] / MOST).tanh()
        found = hold_size(found, x.level, x.count)
        if fine is None:
            return found
        added = found.gather(1, fine)
        if self.cells is None or cells is None:
            return added
        around = x.tokens[..., : len(CELL)].gather(1, _rows(fine, len(CELL)))
        above = hidden.gather(1, _rows(fine, hidden.shape[2]))
        own = self.cells(torch.cat([cells, cells - around, above], 2))[..., 0]
        means = torch.zeros_like(found).scatter_add(1, fine, own) / x.count.clamp(min=1)
        return added + own - means.gather(1, fine)


def hold_size(added: Tensor, level: Tensor, count: Tensor) -> Tensor:
    """What is added to logits ``level`` (N, R) of regions of ``count`` cells, less the mean by
    which the expected number of foreground cells would change, to first order."""
    chance = level.sigmoid()
    weight = count * chance * (1 - chance)
    total = weight.sum(1, keepdim=True).clamp(min=1e-9)
    return added - (added * weight).sum(1, keepdim=True) / total


def _silent(width: int) -> nn.Linear:
    """A layer of one output that is 0; a constant would not outlast ``hold_size``."""
    layer = nn.Linear(width, 1, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


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
