"""In-context colouring: pairs of one random colour map, of which patches are hidden.

Everything random follows from each episode's own seed. Shapes: B episodes, S side of the canvas
(px), h×w patches of both squares.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import CfgNode
from torch import Tensor
from torch.nn import functional as F

from ...structures.context import Context
from ...structures.episode import Episode, MaskedView
from .colours import WHITE, paint, tiled
from .prompts import Pixels, prompts_of
from .vit import TYPES, PaintingViT

APART, TRIES = 32, 50  # mean difference of channels between random colours, where it can be had
MIXED, CUT = 4, 0.5  # references of a stitched prompt at most; least side of what is cut out of it
BLOCK, ASPECT = 16, 0.3  # patches of a hidden block at least; its height over its width, or inverse
DARK = 300.0  # Painter leaves a pair out whose visible colours, in 0–1, have a smaller sum

KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "smoothl1": lambda a, b: F.smooth_l1_loss(a, b, reduction="none", beta=0.01),
    "l1": lambda a, b: (a - b).abs(),
    "l2": lambda a, b: (a - b).square(),
    "l1l2": lambda a, b: ((a - b).abs() + (a - b).square()) / 2,
}


@dataclass
class ColourLosses:
    """``MODEL.SEGGPT.TRAIN``. ``painter``: by the rules of Painter's code in place of SegGPT's.
    ``coloured``: the weight of what is coloured, where black has 1."""

    white: float = 0.0
    mix: float = 0.5
    masked: float = 0.5
    half: float = 0.1
    kind: str = "smoothl1"
    painter: bool = False
    coloured: float = 1.0

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ColourLosses":
        t, told = cfg.MODEL.SEGGPT.TRAIN, cfg.MODEL.SEGGPT.TYPE_TOKENS
        return cls(t.WHITE_PROB, t.MIX_PROB, t.MASKED, t.HALF_PROB, t.LOSS, not told, t.COLOURED)

    def __call__(
        self, net: PaintingViT, pixels: Pixels, episodes: Sequence[Episode]
    ) -> dict[str, Tensor]:
        """{"loss_colour"} of a batch of episodes."""
        rows = [self.pair(x, pixels, net.patch) for x in episodes]
        pictures, colours, valid, masked = (torch.stack(x) for x in zip(*rows, strict=True))
        types = [TYPES.index(x["task"]) for x in episodes]
        painted = net(pictures, colours, masked, torch.tensor(types, device=masked.device))
        return {"loss_colour": self.loss(painted, colours, masked, valid, pixels)}

    def pair(self, x: Episode, pixels: Pixels, patch: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A pair of an episode: pictures and colours (3, 2S, S), normalised; which pixels count,
        bool (1, 2S, S), and which patches are hidden, bool (h, w).

        The prompt is one reference, or a cut of some (mix-context); some of the entities that it
        shows have random colours, the same in the target, or one is white; all else is black.
        """
        random = torch.Generator().manual_seed(x["seed"])
        mixed, white, half = torch.rand(3, generator=random).tolist()
        order = torch.randperm(len(x["references"]), generator=random).tolist()
        references = [x["references"][i] for i in order[: MIXED if mixed < self.mix else 1]]
        ids = [[*map(int, r["entity_ids"])] for r in references]
        known = [e["id"] for e in x["entities"]]
        shown = sorted({i for own in ids for i in own} & {*known})
        shown = [shown[i] for i in torch.randperm(len(shown), generator=random)]
        if white < self.white:
            kept, palette = shown[:1], torch.full((1, 3), WHITE)
        else:
            kept = shown[: int(torch.randint(1, len(shown) + 1, (), generator=random))]
            palette = _colours(len(kept), random)

        squares = [
            _square(r, own, kept, palette, pixels) for r, own in zip(references, ids, strict=True)
        ]
        above = [torch.stack(parts) for parts in zip(*squares, strict=True)]
        own = _square(x, known, kept, palette, pixels)
        views = torch.stack([pixels.square(r["image"]) for r in references])
        if len(references) > 1:
            share, *place = torch.rand(3, generator=random).tolist()
            cut, whole = (CUT + (1 - CUT) * share, *place), (1, 0, 0)
            tones = [tiled(above[0], True, w).unique().numel() for w in (cut, whole)]
            window = whole if tones[0] < tones[1] else cut  # no colour is lost
            views, above = tiled(views, window=window), [tiled(a, True, window) for a in above]
        pictures = torch.cat([views[0], pixels.square(x["image"])], 1)
        colours, valid = (torch.cat([a[0], b], 1) for a, b in zip(above, own, strict=True))
        grid = colours.shape[1] // patch, colours.shape[2] // patch
        count = round(self.masked * grid[0] * grid[1])
        masked = lower_half(*grid) if half < self.half else hidden_blocks(*grid, count, random)
        return pictures, pixels.normalised(colours), valid[:1] > 0, masked.to(colours.device)

    def loss(
        self, painted: Tensor, colours: Tensor, masked: Tensor, valid: Tensor, pixels: Pixels
    ) -> Tensor:
        """The weighted mean over hidden pixels that count, of the batch; 0 where there are none.
        ``painted``, ``colours``: (B, 3, 2S, S), normalised; ``valid``: (B, 1 or 3, 2S, S);
        ``masked``: (B or 1, h, w)."""
        hidden = of_patches(masked, colours)
        valid = valid.to(colours)
        if self.painter:
            visible = (colours.detach() * pixels.std + pixels.mean) / 255 * ~hidden
            valid = valid * (visible.sum((1, 2, 3), keepdim=True) >= DARK)
        total, number = self.sums(painted, colours, valid * hidden, pixels)
        return total / (number + 0.01 if self.painter else number.clamp(min=1))

    def sums(
        self, painted: Tensor, colours: Tensor, weight: Tensor, pixels: Pixels
    ) -> tuple[Tensor, Tensor]:
        """The sum of weighted differences, and of the weights."""
        lit = pixels.shown(colours.detach()).amax(-3, keepdim=True) > 1
        weight = (weight * torch.where(lit, self.coloured, 1.0)).expand_as(colours)
        return (KINDS[self.kind](painted.float(), colours) * weight).sum(), weight.sum()

    def by_context(
        self,
        net: PaintingViT,
        pixels: Pixels,
        episodes: Sequence[Episode],
        context: Context,
        spatial: bool = False,
    ) -> dict[str, Tensor]:
        """{"loss_colour"} of targets below the prompts of a context: white masks of those of its
        entities that the episode has. ValueError: there are none."""
        terms, prompts = [], prompts_of(context, pixels, spatial=spatial)
        for x in episodes:
            ids, view = [e["id"] for e in x["entities"]], pixels.square(x["image"])
            for prompt in prompts:
                id = context.ids[prompt.rows[0]]
                if id not in ids or not len(prompt):
                    continue
                colours, valid = _square(x, ids, [id], prompt.palette.cpu(), pixels)
                target = pixels.normalised(colours)
                painted = paint_below(net, prompt.pictures, prompt.colours, view, context.task)
                terms.append(self.sums(painted, target.expand_as(painted), valid, pixels))
        if not terms:
            raise ValueError(f"no target has one of the context's entities, {context.ids}")
        total, number = (torch.stack(part).sum() for part in zip(*terms, strict=True))
        return {"loss_colour": total / number.clamp(min=1)}


def paint_below(
    net: PaintingViT, pictures: Tensor, colours: Tensor, targets: Tensor, task: str
) -> Tensor:
    """Paint targets (3, S, S), or (T, 3, S, S), below prompts (K, 3, S, S), or (T, K, 3, S, S), by
    feature ensemble: the lower halves (K, 3, S, S), or (T·K, 3, S, S), T times K in turn."""
    group, side = pictures.shape[-4], pictures.shape[-1]
    below = targets.unsqueeze(-4).expand_as(pictures).reshape(-1, *targets.shape[-3:])
    pictures, colours = (x.reshape(-1, *x.shape[-3:]) for x in (pictures, colours))
    canvases = torch.cat([pictures, below], 2)
    masked = lower_half(2 * side // net.patch, side // net.patch).to(below.device)
    types = torch.full((len(canvases),), TYPES.index(task), device=below.device)
    whole = net(canvases, torch.cat([colours, colours.detach()], 2), masked[None], types, group)
    return whole[:, :, side:]


def of_patches(masked: Tensor, canvases: Tensor) -> Tensor:
    """Which pixels of canvases (…, 2S, S) patches (B, h, w) cover: bool (B, 1, 2S, S)."""
    patch = canvases.shape[-1] // masked.shape[-1]
    return masked.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None]


def lower_half(height: int, width: int) -> Tensor:
    """Bool (h, w): the target's patches."""
    return (torch.arange(height) >= height // 2)[:, None].expand(height, width)


def hidden_blocks(height: int, width: int, count: int, random: torch.Generator) -> Tensor:
    """Exactly ``count`` patches in random blocks, bool (h, w): from ``BLOCK`` patches to half of
    the count each, of an aspect that is log-uniform."""
    masked = torch.zeros(height, width, dtype=torch.bool)
    limit = max(BLOCK, count // 2)
    while missing := count - int(masked.sum()):
        area, aspect, top, left = torch.rand(4, generator=random).tolist()
        area = BLOCK + area * (limit - BLOCK)
        aspect = math.exp((2 * aspect - 1) * math.log(ASPECT))
        tall = min(height, max(1, round(math.sqrt(area * aspect))))
        wide = min(width, max(1, round(math.sqrt(area / aspect))))
        y, x = int(top * (height - tall + 1)), int(left * (width - wide + 1))
        block = torch.zeros_like(masked)
        block[y : y + tall, x : x + wide] = True
        fresh = (block & ~masked).flatten().nonzero()[:, 0]
        fresh = fresh[torch.randperm(len(fresh), generator=random)[:missing]]
        masked.view(-1)[fresh] = True
    return masked


def _square(
    view: MaskedView, ids: Sequence[int], kept: Sequence[int], palette: Tensor, pixels: Pixels
) -> list[Tensor]:
    """A view's colours, 0–255, and which of its pixels count, 0 or 1: both (3, S, S)."""
    masks = view["masks"]
    rows = [(ids.index(i), n) for n, i in enumerate(kept) if i in ids]
    shown = torch.stack([masks[row] >= 0.5 for row, _ in rows]) if rows else masks[:0]
    colours = paint(shown, palette[[n for _, n in rows]])
    valid = torch.ones_like(colours)
    if view.get("ignore") is not None:
        valid = valid * ~view["ignore"]
    return [pixels.padded(part.to(pixels.mean.device)) for part in (colours, valid)]


def _colours(count: int, random: torch.Generator) -> Tensor:
    """Random colours (n, 3), apart from black and from each other."""
    found = [torch.zeros(3)]
    for _ in range(count):
        for _ in range(TRIES):
            colour = torch.randint(256, (3,), generator=random).float()
            if min((colour - other).abs().mean() for other in found) >= APART:
                break
        found.append(colour)
    return torch.stack(found[1:])
