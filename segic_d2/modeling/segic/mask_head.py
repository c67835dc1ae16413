"""SEM_SEG_HEADS "InContextMaskHead": features and queries in, one mask per entity out.

Shape shorthand: B targets, M entities over all of them, K shots, C feature channels, W decoder
width, S canvas side (px), g grid side (cells), k points.
"""

from dataclasses import dataclass
from functools import partial

import torch
from detectron2.config import configurable
from detectron2.layers.batch_norm import LayerNorm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...structures.frame import valid_cells
from ...utils.devices import upload
from ..layers.correspondence import best_points, deviations, propagated_mask
from ..layers.mask_decoder import MaskDecoder
from ..layers.precision import without_autocast
from ..layers.prompt_encoder import NOT_A_POINT, POSITIVE, PromptEncoder
from . import released
from .feature_mean import load_feature_mean
from .shared_decoding import decode_shared, entities_at_once, share_image

CHECKPOINTED = 8  # entities whose activations are computed again, and held, at once
OTHER, OWN = 0, 1  # rows of the type embedding of visual tokens


@dataclass
class HeadOutput:
    """What the head says of M entities: mask logits (M, 4g, 4g), quality estimates (M,), and the
    highest similarity (M,) of their propagated masks in the picture."""

    logits: torch.Tensor
    quality: torch.Tensor
    similarity: torch.Tensor


def default_mask_strides(stride):
    """Strides of the mask encoder for a backbone stride: 14 → (7, 2), 16 → (8, 2), 32 → (8, 4)."""
    first = {14: 7, 16: 8, 32: 8}.get(stride)
    if first is None:
        if stride % 2:
            raise ValueError(
                f"no default MODEL.SEGIC.DECODER.MASK_STRIDES for a backbone of stride {stride}"
            )
        first = stride // 2
    return first, stride // first


@SEM_SEG_HEADS_REGISTRY.register()
class InContextMaskHead(nn.Module):
    """Correspondence, prompt encoder and two-way decoder (paper Fig. 3).

    The names of the modules are those of the released checkpoint. All entities of all targets are
    decoded in one batched pass.

    Raises:
        ValueError: a canvas that is no multiple of the stride, mask strides whose product is not
            the stride, or an option out of its range.
    """

    @configurable
    def __init__(
        self,
        *,
        channels,
        stride,
        canvas,
        width=256,
        depth=2,
        heads=8,
        mlp=2048,
        downsample=2,
        mask_tokens=4,
        mask_strides=(),
        text_dim=768,
        dense=True,
        point=True,
        visual=True,
        meta=True,
        num_points=1,
        point_distance=1.0,
        points_on="grid",
        points_in_padding=False,
        interpolate="map",
        tau=1.0,
        eps=1e-8,
        type_always=True,
        checkpoint=False,
        feature_mean=None,
        groups=1,
        background=False,
        propagated=0,
        relative=False,
    ):
        super().__init__()
        if canvas % stride:
            raise ValueError(
                f"INPUT.CANVAS {canvas} is no multiple of the backbone's stride {stride}"
            )
        mask_strides = tuple(mask_strides) or default_mask_strides(stride)
        if len(mask_strides) != 2 or mask_strides[0] * mask_strides[1] != stride:
            raise ValueError(
                f"MODEL.SEGIC.DECODER.MASK_STRIDES {mask_strides} must be two numbers whose "
                f"product is the backbone's stride {stride}"
            )
        for key, value, allowed in (
            ("POINTS.ARGMAX", points_on, ("grid", "canvas")),
            ("SIMILARITY.INTERPOLATE", interpolate, ("map", "features")),
        ):
            if value not in allowed:
                raise ValueError(f"MODEL.SEGIC.{key} is {value!r}; it must be one of {allowed}")
        if num_points < 1 or tau <= 0:
            raise ValueError(
                f"MODEL.SEGIC.POINTS.NUM is {num_points} (must be ≥ 1), "
                f"SIMILARITY.TAU is {tau} (must be > 0)"
            )
        self.canvas, self.stride, self.grid = canvas, stride, canvas // stride
        self.dense, self.point, self.visual, self.meta = dense, point, visual, meta
        self.num_points, self.point_distance = num_points, point_distance
        self.points_on, self.points_in_padding = points_on, points_in_padding
        self.interpolate, self.tau, self.eps = interpolate, tau, eps
        self.type_always, self.checkpoint = type_always, checkpoint

        if channels % groups:
            raise ValueError(
                f"MODEL.SEGIC.SIMILARITY.GROUPS is {groups}; the backbone's {channels} channels "
                "cannot be parted so"
            )
        if interpolate == "features" and (groups > 1 or background or relative):
            raise ValueError(
                "MODEL.SEGIC.SIMILARITY.INTERPOLATE is 'features' (released), which knows neither "
                "SIMILARITY.GROUPS above 1 nor SIMILARITY.RELATIVE nor MODEL.SEGIC.BACKGROUND"
            )
        if not 0 <= propagated <= groups:
            raise ValueError(
                f"MODEL.SEGIC.SIMILARITY.PROPAGATED is {propagated}; it must be 0 (all) to "
                f"SIMILARITY.GROUPS, {groups}"
            )
        self.groups, self.propagated = groups, propagated or groups
        self.background, self.relative = background, relative
        self.register_buffer("feature_mean", feature_mean)  # None: no buffer, raw cosines
        self.neck = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            LayerNorm(width),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            LayerNorm(width),
        )
        self.prompt_encoder = PromptEncoder(
            width, canvas, mask_strides, groups * (2 if background else 1) + relative
        )
        self.mask_decoder = MaskDecoder(width, depth, heads, mlp, downsample, mask_tokens)
        if visual:
            self.inst_proj = nn.Linear(channels, width)
            self.inst_type_embed = nn.Embedding(2, width)
        if meta:
            self.prompt_proj = nn.Linear(text_dim, width)

    @classmethod
    def from_config(cls, cfg, input_shape):
        m = cfg.MODEL.SEGIC
        if m.IN_FEATURE not in input_shape:
            raise ValueError(
                f"MODEL.SEGIC.IN_FEATURE is {m.IN_FEATURE!r}; "
                f"the backbone {cfg.MODEL.BACKBONE.NAME} has {sorted(input_shape)}"
            )
        shape = input_shape[m.IN_FEATURE]
        return {
            "channels": shape.channels,
            "stride": shape.stride,
            "canvas": cfg.INPUT.CANVAS,
            "width": m.DECODER.WIDTH,
            "depth": m.DECODER.DEPTH,
            "heads": m.DECODER.HEADS,
            "mlp": m.DECODER.MLP,
            "downsample": m.DECODER.ATTENTION_DOWNSAMPLE,
            "mask_tokens": m.DECODER.MASK_TOKENS,
            "mask_strides": m.DECODER.MASK_STRIDES,
            "text_dim": m.TEXT.DIM,
            "dense": m.DENSE,
            "point": m.POINT,
            "visual": m.VISUAL,
            "meta": m.META,
            "num_points": m.POINTS.NUM,
            "point_distance": m.POINTS.MIN_DISTANCE,
            "points_on": m.POINTS.ARGMAX,
            "points_in_padding": m.POINTS.IN_PADDING,
            "interpolate": m.SIMILARITY.INTERPOLATE,
            "tau": m.SIMILARITY.TAU,
            "eps": m.SIMILARITY.EPS,
            "type_always": m.CROSS_ENTITY.TYPE_ALWAYS,
            "checkpoint": m.DECODER.CHECKPOINT,
            "feature_mean": cls._feature_mean(m.SIMILARITY, shape.channels),
            "groups": m.SIMILARITY.GROUPS,
            "background": m.BACKGROUND,
            "propagated": m.SIMILARITY.PROPAGATED,
            "relative": m.SIMILARITY.RELATIVE,
        }

    @staticmethod
    def _feature_mean(options, channels):
        """The mean (C,) of ``SIMILARITY.MEAN``, zeros where weights will bring it; None: none."""
        if options.CENTER != "fixed":
            return None
        if options.PROTOTYPE == "pooled":
            raise ValueError(
                "MODEL.SEGIC.SIMILARITY.CENTER is 'fixed', which PROTOTYPE 'pooled' (released) "
                "does not know; it must be 'none'"
            )
        return load_feature_mean(options.MEAN, channels) if options.MEAN else torch.zeros(channels)

    def forward(
        self,
        features,
        image_sizes,
        queries,
        *,
        crossing,
        boxes=None,
        points=None,
        appearance=None,
        chunk=0,
    ):
        """Decode every entity of every target.

        Args:
            features: float (B, C, g, g).
            image_sizes: B (h, w) in pixels, content of each canvas.
            queries: ``Queries`` of M entities.
            crossing: whether an image's entities see each other's visual tokens: a bool for all
                images, or bool (B,), best on the CPU: somebody has to read it.
            boxes: float (M, 4) xyxy, NaN where an entity has no box prompt; None: no boxes.
            points: float (M, k, 2), pixel coordinates on the canvas of the points of each entity;
                None: the best points of its propagated mask.
            appearance: float (B, C, g, g), what the image embedding is of; None: the features.
            chunk: entities decoded at once; 0: all with autograd, or a few that are checkpointed;
                without, ``entities_at_once``. The result does not depend on it, but for rounding.

        Returns:
            HeadOutput of M rows.
        """
        image = self.neck(features if appearance is None else appearance)  # (B, W, g, g)
        similar = self.similarities(features, queries)  # (M, n, r, r)
        maps = self._mean_of_groups(similar)  # (M, r, r)
        inside = valid_cells(image_sizes, maps.shape[-1], self.canvas, maps.device)
        inside = inside[queries.image_index]
        if self.relative:
            similar = torch.cat([similar, deviations(maps, inside)[:, None]], 1)
        decode, projected = self.decoding(image), self.project(queries)
        outputs = []
        if not chunk:
            chunk = self._entities_at_once(image, len(queries))
        for rows in torch.arange(len(queries), device=features.device).split(chunk):
            index = queries.image_index[rows]
            full = self.to_canvas(similar[rows])  # (M', n, S, S), only where it is needed
            # chunk by chunk: of M classes of an image, crossed, they are (M, M·K, W)
            tokens, exists = self.context_tokens(queries, crossing, rows, projected)
            prompts, mask = [tokens], [exists]
            if self.point:
                on = maps[rows] if self.points_on == "grid" else self._mean_of_groups(full)
                valid = self.valid_positions(image_sizes, on)[index]
                box = None if boxes is None else boxes[rows]
                given = None if points is None else points[rows]
                token, exists = self.point_tokens(on, valid, box, given)
                prompts.insert(0, token)
                mask.insert(0, exists)
            outputs.append(decode(index, full, torch.cat(prompts, 1), torch.cat(mask, 1)))
        logits, quality = zip(*outputs, strict=True)
        highest = maps.masked_fill(~inside, -torch.inf).amax((1, 2))
        return HeadOutput(torch.cat(logits), torch.cat(quality), highest)

    def _entities_at_once(self, image, count):
        if not torch.is_grad_enabled():
            return entities_at_once(image)
        return min(count, CHECKPOINTED) if self.checkpoint else count

    def decoding(self, image):
        """How entities of these targets are decoded: with autograd plainly, without it shared.

        With ``MODEL.SEGIC.DECODER.CHECKPOINT``, autograd keeps what goes in and computes the rest
        again when it needs it: the same gradients, less memory, more time.

        Args:
            image: float (B, W, g, g), the neck's output.

        Returns:
            function of the target of each entity (M,), similarity maps (M, n, S, S), prompts
            (M, T, W) and which of them exist (M, T) → logits (M, 4g, 4g), quality (M,).
        """
        encoder, decoder = self.prompt_encoder, self.mask_decoder
        pos = encoder.pe_layer.grid(*image.shape[-2:])
        if torch.is_grad_enabled() or torch.is_autocast_enabled(image.device.type):

            def plain(index, masks, prompts, exists):
                dense = encoder.encode_masks(masks) if self.dense else encoder.no_mask()
                return decoder(image[index] + dense, pos, prompts, exists)

            if not (self.checkpoint and torch.is_grad_enabled()):
                return plain
            return partial(checkpoint, plain, use_reentrant=False)
        *_, last = encoder.mask_downscaling
        if self.dense:
            shared = share_image(decoder, image, pos, last)
        else:
            shared = share_image(decoder, image + encoder.no_mask(), pos)

        def quick(index, masks, prompts, exists):
            hidden = encoder.hidden_masks(masks) if self.dense else None
            return decode_shared(decoder, shared, index, hidden, prompts, exists)

        return quick

    def propagate(self, features, queries):
        """The propagated masks of M entities, (M, r, r): on the grid, or at S/4 as released."""
        return self._mean_of_groups(self.similarities(features, queries, background=False))

    def similarities(self, features, queries, background=True):
        """Similarity maps of M entities, (M, n, r, r): to the references' entity, one per group of
        channels, then, where it is on, to their background. The propagated mask is the mean of the
        first ``propagated`` of them."""
        if self.feature_mean is not None:
            features = features - self.feature_mean[:, None, None]
        vectors = [queries.vectors]
        if self.background and background:
            vectors.append(queries.background)
        maps = propagated_mask(
            features,
            torch.stack(vectors, 1).flatten(0, 1),
            queries.image_index.repeat_interleave(len(vectors)),
            counts=[n * len(vectors) for n in queries.counts],
            upsample_to=self.canvas // 4 if self.interpolate == "features" else 0,
            eps=self.eps,
            tau=self.tau,
            groups=self.groups,
        )
        return maps.unflatten(0, (-1, len(vectors))).flatten(1, -3)

    @without_autocast
    def self_similarity(self, features, image_size):
        """How alike the cells of one target are, as the propagated mask sees it.

        Args:
            features: float (C, g, g). image_size: (h, w) of the content on the canvas, px.

        Returns:
            float32 (n, n) of the n = rows · columns cells that hold any content, the mean cosine of
            the first ``propagated`` groups of channels, 4 n² bytes; and (g, rows, columns).
        """
        rows, columns = (-(-x // self.stride) for x in image_size)
        features = features.float()
        if self.feature_mean is not None:
            features = features - self.feature_mean[:, None, None]
        parts = features[:, :rows, :columns].flatten(1).unflatten(0, (self.groups, -1))
        units = F.normalize(parts[: self.propagated], dim=1, eps=self.eps).flatten(0, 1)
        return units.T @ units / self.propagated, (self.grid, rows, columns)

    def _mean_of_groups(self, maps):
        return maps[:, 0] if self.groups == 1 else maps[:, : self.propagated].mean(1)

    def to_canvas(self, maps):
        """Maps (M, n, r, r) interpolated to the canvas, (M, n, S, S); as they are where nothing
        needs them there."""
        if not self.dense and not (self.point and self.points_on == "canvas"):
            return maps
        size = (self.canvas, self.canvas)
        return F.interpolate(maps, size, mode="bilinear", align_corners=False)

    def valid_positions(self, image_sizes, maps):
        """Where points may lie on maps (·, r, r), for B images: bool (B, r, r)."""
        if self.points_in_padding:
            image_sizes = released.whole_canvas(image_sizes, self.canvas)
        return valid_cells(image_sizes, maps.shape[-1], self.canvas, maps.device)

    def point_tokens(self, maps, valid, boxes, points=None):
        """Tokens of the points, then of the box or the padding point that stands for none.

        Args:
            points: float (M, k, 2), see ``forward``; None: the best points of the maps.

        Returns:
            float (M, k+1, W) and bool (M, k+1), or k+2 tokens where the batch has boxes.
        """
        if points is None:
            number, distance = self.num_points, self.point_distance * self.stride
            xy, found = best_points(maps, valid, number, distance, self.canvas, self.stride)
        else:
            xy, found = points, points.new_ones(points.shape[:2], dtype=torch.bool)
        labels = torch.where(found, POSITIVE, NOT_A_POINT)
        tokens = [self.prompt_encoder.encode_points(xy, labels)]
        count = len(maps)
        if boxes is None:
            tokens.append(self.prompt_encoder.no_point(count))
            exists = found.new_ones(count, 1)
        else:
            boxed = ~boxes.isnan().any(1)
            corners = self.prompt_encoder.encode_boxes(boxes.nan_to_num())
            padding = self.prompt_encoder.no_point(count).expand(-1, 2, -1)
            tokens.append(torch.where(boxed[:, None, None], corners, padding))
            exists = torch.stack([torch.ones_like(boxed), boxed], 1)  # the padding is one token
        return torch.cat(tokens, 1), torch.cat([torch.ones_like(found), exists], 1)

    def project(self, queries):
        """Texts (M, 1, W) and prototypes (M, K, W) in the decoder's width; None where the
        instruction is off.

        Raises:
            ValueError: the meta instruction is on and the contexts carry no text vectors.
        """
        if self.meta and queries.meta is None:
            raise ValueError("MODEL.SEGIC.META is on but the context has no text vectors")
        text = self.prompt_proj(queries.meta)[:, None] if self.meta else None
        return text, self.inst_proj(queries.prototypes) if self.visual else None

    def context_tokens(self, queries, crossing, rows=None, projected=None):
        """Text and visual tokens of each entity, in this order.

        Args:
            crossing: see ``forward``.
            rows: int64 (M',), the entities whose tokens are wanted; None: all, M' = M.
            projected: what ``project`` says of the queries; None: it is asked.

        Returns:
            float (M', T, W) and bool (M', T), which tokens exist. With crossing, T covers the
            visual tokens of all entities of the image, in their order, told apart by a type
            embedding.
        """
        text, own = self.project(queries) if projected is None else projected
        if rows is None:
            rows = torch.arange(len(queries), device=queries.image_index.device)
        count = len(rows)
        tokens = [self.neck[0].weight.new_zeros(count, 0, self.neck[0].out_channels)]
        exists = [queries.shots.new_zeros(count, 0)]
        if self.meta:
            tokens.append(text[rows])
            exists.append(queries.shots.new_ones(count, 1))
        if self.visual:
            if isinstance(crossing, bool):  # nobody has to be asked
                crossed, shape = crossing, (len(queries.counts),)
                crossing = torch.full(shape, crossed, device=rows.device)
            else:
                crossed, crossing = bool(crossing.any()), upload(crossing, rows.device)
            visual = self._crossed_tokens if crossed else self._own_tokens
            token, mask = visual(own, queries, crossing, rows)
            tokens.append(token)
            exists.append(mask)
        return torch.cat(tokens, 1), torch.cat(exists, 1)

    def _own_tokens(self, own, queries, crossing, wanted):
        own = own[wanted]
        typed = own + self.inst_type_embed.weight[OWN] if self.type_always else own
        return typed, queries.shots[wanted]

    def _crossed_tokens(self, own, queries, crossing, wanted):
        """Visual tokens of all entities of the image for the wanted ones, (M', Nmax·K, W)."""
        index, most = queries.image_index[wanted], max(queries.counts)
        counts = upload(queries.counts, index.device)
        first = (counts.cumsum(0) - counts)[index]  # row of the image's first entity
        slot = torch.arange(most, device=index.device)
        rows = (first[:, None] + slot).clamp(max=len(queries) - 1)  # (M', Nmax)
        in_image = slot < counts[index][:, None]
        is_own = rows == wanted[:, None]
        cross = crossing[index][:, None]
        shown = in_image & (cross | is_own)
        type_embed = self.inst_type_embed.weight[is_own.long()]  # (M', Nmax, W)
        if not self.type_always:
            type_embed = released.untyped_unless_crossing(type_embed, crossing[index])
        tokens = own[rows] + type_embed[:, :, None]  # (M', Nmax, K, W)
        mask = queries.shots[rows] & shown[..., None]
        return tokens.flatten(1, 2), mask.flatten(1, 2)
