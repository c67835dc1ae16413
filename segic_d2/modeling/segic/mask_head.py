"""SEM_SEG_HEADS "InContextMaskHead": features and queries in, one mask per entity out.

Shapes: B targets, M entities over all of them, M' of a chunk, K shots, C feature channels, W
decoder width, S canvas side (px), g grid side (cells), r side of a similarity map, k points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.layers.batch_norm import LayerNorm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import Tensor, nn
from torch.nn import functional as F

from ...structures.frame import valid_cells
from ...utils.devices import upload
from ..layers.correspondence import best_points, deviations
from ..layers.mask_decoder import MaskDecoder
from ..layers.prompt_encoder import PromptEncoder
from ..layers.similarity import Similarity
from . import released
from .feature_mean import configured_mean
from .queries import Queries
from .regions.matcher import RegionMatcher
from .shared_decoding import entities_at_once, entity_decoder, shares
from .tokens import Tokens, crossed_points, crossed_tokens, own_tokens, point_tokens

Projected = tuple[Tensor | None, Tensor | None]  # texts (M, 1, W), prototypes (M, K, W)
CHECKPOINTED = 8  # entities whose activations are computed again, and held, at once


@dataclass
class HeadOutput:
    """What the head says of M entities: logits (M, 4g, 4g) of the masks, logits (M,) of the
    expected IoU, the highest similarity (M,) of the propagated masks in the picture, and these (M,
    r, r)."""

    logits: Tensor
    quality: Tensor
    similarity: Tensor
    maps: Tensor


@dataclass(frozen=True)
class Instructions:
    """Which instructions the decoder is given (paper Sec. 3.3)."""

    dense: bool = True
    point: bool = True
    visual: bool = True
    meta: bool = True


def mask_strides(stride: int) -> tuple[int, int]:
    """Strides of the mask encoder for a backbone stride: 14 → (7, 2), 16 → (8, 2), 32 → (8, 4).
    ValueError: an odd stride."""
    if stride % 2:
        raise ValueError(f"no mask encoder for a backbone of the odd stride {stride}")
    first = 8 if stride == 32 else stride // 2
    return first, stride // first


@SEM_SEG_HEADS_REGISTRY.register()
class InContextMaskHead(nn.Module):
    """Correspondence, prompt encoder and two-way decoder (paper Fig. 3).

    The names of the tensors are those of the released checkpoint. All entities of all targets are
    decoded in one batched pass.

    Args:
        similarity: of targets to references. channels: C. width, heads, mlp: of the decoder.
        text_dim: D, of the meta instruction. num_points: k, points per entity.
        relative: the dense instruction has the propagated mask's deviations, too.
        checkpoint: see ``entity_decoder``.
    """

    matcher: RegionMatcher | None  # of the head that chooses regions

    @configurable
    def __init__(
        self,
        *,
        similarity: Similarity,
        channels: int,
        width: int = 256,
        heads: int = 8,
        mlp: int = 2048,
        text_dim: int = 768,
        instructions: Instructions = Instructions(),  # noqa: B008  frozen
        num_points: int = 1,
        relative: bool = False,
        rules: released.Rules = released.PAPER,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.matcher = None
        if rules.upsampled and relative:
            raise ValueError("MODEL.SEGIC.RELEASED is True, which knows no SIMILARITY.RELATIVE")
        self.similarity, self.rules, self.on = similarity, rules, instructions
        self.num_points, self.relative, self.checkpoint = num_points, relative, checkpoint
        self.channels = channels
        self.canvas, self.stride, self.grid = similarity.canvas, similarity.stride, similarity.grid
        self.neck = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            LayerNorm(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            LayerNorm(width),
        )
        maps = similarity.groups * (2 if similarity.background else 1) + relative
        self.prompt_encoder = PromptEncoder(width, self.canvas, mask_strides(self.stride), maps)
        self.mask_decoder = MaskDecoder(width, heads=heads, mlp=mlp)
        if instructions.visual:
            self.inst_proj = nn.Linear(channels, width)
            self.inst_type_embed = nn.Embedding(2, width)
        if instructions.meta:
            self.prompt_proj = nn.Linear(text_dim, width)
        self.register_load_state_dict_post_hook(_name_missing)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict[str, Any]:
        """The arguments of a config. ValueError: a feature that the backbone lacks, or options that
        exclude each other."""
        m, s = cfg.MODEL.SEGIC, cfg.MODEL.SEGIC.SIMILARITY
        if m.IN_FEATURE not in input_shape:
            raise ValueError(
                f"MODEL.SEGIC.IN_FEATURE is {m.IN_FEATURE!r}; "
                f"the backbone {cfg.MODEL.BACKBONE.NAME} has {sorted(input_shape)}"
            )
        shape, rules = input_shape[m.IN_FEATURE], released.find_rules(cfg)
        canvas, mean = cfg.INPUT.CANVAS, configured_mean(cfg, shape.channels)
        return {
            "similarity": Similarity(
                canvas, shape, mean, s.GROUPS, s.PROPAGATED, m.BACKGROUND, rules.upsampled
            ),
            "channels": shape.channels,
            "width": m.DECODER.WIDTH,
            "heads": m.DECODER.HEADS,
            "mlp": m.DECODER.MLP,
            "text_dim": m.TEXT.DIM,
            "instructions": Instructions(m.DENSE, m.POINT, m.VISUAL, m.META),
            "num_points": m.POINTS.NUM,
            "relative": s.RELATIVE,
            "rules": rules,
            "checkpoint": m.DECODER.CHECKPOINT,
        }

    @property
    def decodes(self) -> bool:
        """Whether the decoder is asked for masks."""
        return True

    @property
    def tuned(self) -> bool:
        """Whether its decoder's share was tuned on somebody's pictures."""
        return False

    @property
    def chooses(self) -> bool:
        """Whether masks are regions that a matcher chooses."""
        return False

    def forward(
        self,
        features: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        queries: Queries,
        *,
        crossing: bool | Tensor,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        appearance: Tensor | None = None,
        chunk: int = 0,
        cross_points: bool = False,
    ) -> HeadOutput:
        """Decode every entity of every target.

        Args:
            features: float (B, C, g, g).
            image_sizes: B (h, w) in pixels, content of each canvas.
            queries: of M entities.
            crossing: whether an image's entities see each other's visual tokens: a bool for all
                images, or bool (B,), best on the CPU: somebody has to read it.
            boxes: float (M, 4) xyxy, NaN where an entity has no box prompt; None: no boxes.
            points: float (M, k, 2), px on the canvas; None: the best points of the propagated mask.
            appearance: float (B, C, g, g), what the image embedding is of; None: the features.
            chunk: entities decoded at once; 0: all with autograd, or a few that are checkpointed;
                without, ``entities_at_once``. The result does not depend on it, but for rounding.
            cross_points: the points of an image's other entities are negative ones of each.
        """
        image = self.neck(features if appearance is None else appearance)  # (B, W, g, g)
        index = queries.image_index
        similar = self.similar(features, queries, queries.vectors)
        maps = self.similarity.mean(similar)  # (M, r, r)
        inside = valid_cells(image_sizes, maps.shape[-1], self.canvas, maps.device)[index]
        if self.relative:
            similar = torch.cat([similar, deviations(maps, inside)[:, None]], 1)
        encoder, decoder = self.prompt_encoder, self.mask_decoder
        decode = entity_decoder(encoder, decoder, image, self.on.dense, self.checkpoint)
        projected, outputs = self.project(queries), []
        chunk = chunk or self._entities_at_once(image, len(queries))
        parts = torch.arange(len(queries), device=features.device).split(chunk)
        known = self._all_points(similar, image_sizes, index, parts) if cross_points else None
        for rows in parts:
            full = self.to_canvas(similar[rows])  # (M', n, S, S), only where it is needed
            # chunk by chunk: of M classes of an image, crossed, they are (M, M·K, W)
            tokens = [self.context_tokens(queries, crossing, rows, projected)]
            box = None if boxes is None else boxes[rows]
            if self.on.point and known is not None:
                tokens.insert(0, crossed_points(self.prompt_encoder, *known, queries, rows, box))
            elif self.on.point:
                where = self.similarity.mean(full) if self.rules.canvas_points else maps[rows]
                valid = self.valid_positions(image_sizes, where)[index[rows]]
                given = None if points is None else points[rows]
                tokens.insert(0, self.point_tokens(where, valid, box, given))
            prompts, exists = zip(*tokens, strict=True)
            outputs.append(decode(index[rows], full, torch.cat(prompts, 1), torch.cat(exists, 1)))
        logits, quality = zip(*outputs, strict=True)
        highest = maps.masked_fill(~inside, -torch.inf).amax((1, 2))
        return HeadOutput(torch.cat(logits), torch.cat(quality), highest, maps)

    def _entities_at_once(self, image: Tensor, count: int) -> int:
        if not torch.is_grad_enabled():
            return entities_at_once(image)
        return min(count, CHECKPOINTED) if self.checkpoint else count

    def similar(self, features: Tensor, queries: Queries, vectors: Tensor) -> Tensor:
        """Similarity maps (M, n, r, r) of M entities to their vectors (M, v, C); where they have
        parts, the first of these is that of the most alike part at each position."""
        index, counts = queries.image_index, queries.counts
        maps = self.similarity.maps(features, vectors, index, counts)
        if queries.parts is None:
            return maps
        best = torch.full_like(maps[:, : self.similarity.groups], -torch.inf)
        for part, exists in zip(
            queries.parts[0].unbind(1), queries.parts[1].unbind(1), strict=True
        ):
            one = self.similarity.maps(features, part[:, None], index, counts)
            best = best.maximum(one.masked_fill(~exists[:, None, None, None], -torch.inf))
        return torch.cat([best, maps[:, self.similarity.groups :]], 1)

    def propagate(self, features: Tensor, queries: Queries) -> Tensor:
        """The propagated masks of M entities, (M, r, r): on the grid, or at S/4 as released."""
        return self.similarity.mean(self.similar(features, queries, queries.vectors[:, :1]))

    def _all_points(
        self,
        similar: Tensor,
        image_sizes: Sequence[tuple[int, int]],
        index: Tensor,
        parts: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """The best points of all entities, (M, k, 2) px on the canvas and which there are, (M, k),
        of similarity maps (M, n, r, r)."""
        found = []
        for rows in parts:
            maps = self.to_canvas(similar[rows]) if self.rules.canvas_points else similar[rows]
            where = self.similarity.mean(maps)
            found.append(self._best(where, self.valid_positions(image_sizes, where)[index[rows]]))
        xy, exist = zip(*found, strict=True)
        return torch.cat(xy), torch.cat(exist)

    def _best(self, maps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        side = float(self.stride)  # px between two points of an entity, and of a cell
        return best_points(maps, valid, self.num_points, side, self.canvas, side)

    def to_canvas(self, maps: Tensor) -> Tensor:
        """Maps (M, n, r, r) interpolated to the canvas, (M, n, S, S); as they are where nothing
        needs them there: those of cells are not if entities share what they have in common."""
        cells = maps.shape[-1] * self.stride == self.canvas and shares(maps.device)
        if (cells or not self.on.dense) and not (self.on.point and self.rules.canvas_points):
            return maps
        size = (self.canvas, self.canvas)
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)

    def valid_positions(self, image_sizes: Sequence[tuple[int, int]], maps: Tensor) -> Tensor:
        """Where points may lie on maps (·, r, r), for B images: bool (B, r, r)."""
        if self.rules.in_padding:
            image_sizes = released.whole_canvas(image_sizes, self.canvas)
        return valid_cells(image_sizes, maps.shape[-1], self.canvas, maps.device)

    def point_tokens(
        self, maps: Tensor, valid: Tensor, boxes: Tensor | None, points: Tensor | None = None
    ) -> Tokens:
        """Tokens of the given points (M, k, 2), or of the best points of the maps (M, r, r) where
        they are valid, and of the boxes; see ``tokens.point_tokens``."""
        if points is None:
            xy, found = self._best(maps, valid)
        else:
            xy, found = points, points.new_ones(points.shape[:2], dtype=torch.bool)
        return point_tokens(self.prompt_encoder, xy, found, boxes)

    def project(self, queries: Queries) -> Projected:
        """Texts (M, 1, W) and prototypes (M, K, W) in the decoder's width; None where the
        instruction is off. ValueError: the meta instruction is on and the contexts carry no text
        vectors."""
        if self.on.meta and queries.meta is None:
            raise ValueError("MODEL.SEGIC.META is on but the context has no text vectors")
        text = self.prompt_proj(queries.meta)[:, None] if self.on.meta else None
        return text, self.inst_proj(queries.prototypes) if self.on.visual else None

    def context_tokens(
        self, queries: Queries, crossing: bool | Tensor, rows: Tensor, projected: Projected
    ) -> Tokens:
        """Text and visual tokens of the wanted entities, ``rows`` int64 (M',), in this order: float
        (M', T, W), and bool (M', T), which exist. With crossing, T covers the visual tokens of all
        entities of the image, in their order, told apart by a type embedding."""
        (text, own), learned = projected, self.mask_decoder.iou_token.weight  # (1, W)
        tokens = [learned.new_zeros(len(rows), 0, learned.shape[1])]
        exists = [queries.shots.new_zeros(len(rows), 0)]
        if text is not None:
            tokens.append(text[rows])
            exists.append(queries.shots.new_ones(len(rows), 1))
        if own is not None:
            if isinstance(crossing, bool):  # nobody has to be asked
                crossed = crossing
                crossing = torch.full((len(queries.counts),), crossing, device=rows.device)
            else:
                crossed, crossing = bool(crossing.any()), upload(crossing, rows.device)
            types, untyped = self.inst_type_embed.weight, self.rules.untyped
            if crossed:
                token, mask = crossed_tokens(own, queries, crossing, rows, types, untyped)
            else:
                token, mask = own_tokens(own, queries, rows, types, untyped)
            tokens.append(token)
            exists.append(mask)
        return torch.cat(tokens, 1), torch.cat(exists, 1)

    # The mean feature is the similarity's, but bears the name that checkpoints know.

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        state, prefix = super().state_dict(*args, **kwargs), kwargs.get("prefix", "")
        if f"{prefix}similarity.feature_mean" in state:
            state[f"{prefix}feature_mean"] = state.pop(f"{prefix}similarity.feature_mean")
        return state

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        if f"{prefix}feature_mean" in state_dict:
            mean = state_dict.pop(f"{prefix}feature_mean")
            state_dict[f"{prefix}similarity.feature_mean"] = mean
        super()._load_from_state_dict(state_dict, prefix, *args)


def _name_missing(_: nn.Module, incompatible: Any) -> None:
    missing = incompatible.missing_keys
    missing[:] = [name.replace("similarity.feature_mean", "feature_mean") for name in missing]
