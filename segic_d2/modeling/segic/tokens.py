"""The tokens that tell the decoder what to segment: points, boxes, and what references gave.

Shapes: M entities, M' of them wanted, k points, K shots, W decoder width.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...structures.context import Context
from ...structures.features import Features
from ...structures.prompts import BoxPrompt, Prompt
from ...utils.devices import upload
from ..layers.prompt_encoder import NEGATIVE, NOT_A_POINT, POSITIVE, PromptEncoder
from . import released
from .queries import Queries

OWN = 1  # row of the type embedding of visual tokens: the entity's own; 0: another entity's
Tokens = tuple[Tensor, Tensor]  # float (M', T, W), and bool (M', T): which exist


def point_tokens(
    encoder: PromptEncoder,
    xy: Tensor,
    found: Tensor,
    boxes: Tensor | None,
    positive: Tensor | None = None,
) -> Tokens:
    """Tokens of the points (M, k, 2), px on the canvas, as far as found, bool (M, k), then of the
    box (xyxy, NaN where there is none) or the padding point that stands for none: k+1, or k+2 where
    the batch has boxes. ``positive``: bool (M, k), which points are on the thing; None: all."""
    kinds = POSITIVE if positive is None else torch.where(positive, POSITIVE, NEGATIVE)
    tokens = [encoder.encode_points(xy, torch.where(found, kinds, NOT_A_POINT))]
    count = len(xy)
    if boxes is None:
        tokens.append(encoder.no_point(count))
        exists = found.new_ones(count, 1)
    else:
        boxed = ~boxes.isnan().any(1)
        corners = encoder.encode_boxes(boxes.nan_to_num())
        padding = encoder.no_point(count).expand(-1, 2, -1)
        tokens.append(torch.where(boxed[:, None, None], corners, padding))
        exists = torch.stack([torch.ones_like(boxed), boxed], 1)  # the padding is one token
    shown = torch.ones_like(found) if positive is None else found
    return torch.cat(tokens, 1), torch.cat([shown, exists], 1)


def crossed_points(
    encoder: PromptEncoder,
    xy: Tensor,
    found: Tensor,
    queries: Queries,
    rows: Tensor,
    boxes: Tensor | None,
) -> Tokens:
    """Tokens of the points (M, k, 2) of all entities of the image for the wanted ones, rows int64
    (M',), and of their boxes, as of ``point_tokens``; those of others are negative, as the released
    code has them in videos."""
    others, in_image = _neighbours(queries, rows)
    own = (others == rows[:, None])[..., None].expand(-1, -1, xy.shape[1])
    shown = found[others] & in_image[..., None]
    flat = (x.flatten(1, 2) for x in (xy[others], shown, own))
    points, exist, positive = flat
    return point_tokens(encoder, points, exist, boxes, positive)


def own_tokens(own: Tensor, queries: Queries, rows: Tensor, types: Tensor, untyped: bool) -> Tokens:
    """Visual tokens of the wanted entities, rows int64 (M',), themselves: of their projected
    prototypes (M, K, W) and type embeddings (2, W). ``untyped``: see
    ``untyped_unless_crossing``."""
    tokens = own[rows]
    return tokens if untyped else tokens + types[OWN], queries.shots[rows]


def crossed_tokens(
    own: Tensor, queries: Queries, crossing: Tensor, rows: Tensor, types: Tensor, untyped: bool
) -> Tokens:
    """Visual tokens of all entities of the image for the wanted ones, (M', Nmax·K, W), as of
    ``own_tokens``; ``crossing``: bool (B,), in which images entities see each other."""
    index, (others, in_image) = queries.image_index[rows], _neighbours(queries, rows)
    is_own = others == rows[:, None]
    shown = in_image & (crossing[index][:, None] | is_own)
    type_embed = types[is_own.long()]  # (M', Nmax, W)
    if untyped:
        type_embed = released.untyped_unless_crossing(type_embed, crossing[index])
    tokens = own[others] + type_embed[:, :, None]  # (M', Nmax, K, W)
    mask = queries.shots[others] & shown[..., None]
    return tokens.flatten(1, 2), mask.flatten(1, 2)


def _neighbours(queries: Queries, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (M', Nmax) of all entities of the images of the wanted ones, and which of them there
    are, for images have different numbers."""
    index, most = queries.image_index[rows], max(queries.counts)
    counts = upload(queries.counts, index.device)
    first = (counts.cumsum(0) - counts)[index]  # row of the image's first entity
    slot = torch.arange(most, device=index.device)
    others = (first[:, None] + slot).clamp(max=len(queries) - 1)
    return others, slot < counts[index][:, None]


def canvas_boxes(
    features: Features, contexts: Sequence[Context], prompts: Sequence[Mapping[int, Prompt]]
) -> Tensor:
    """The box prompts of M entities on the canvas, (M, 4) xyxy, NaN where there is none: as in
    training, the centres of the first and the last pixels inside, which for the decoder are whole
    numbers. ValueError: prompts of another number of targets, for an entity that is none, or of
    another kind."""
    rows = []
    if len(prompts) != len(contexts):
        raise ValueError(f"prompts of {len(prompts)} targets for {len(contexts)} targets")
    for frame, context, given in zip(features.frames, contexts, prompts, strict=True):
        if unknown := set(given) - set(context.ids):
            raise ValueError(f"prompts for {sorted(unknown)}; the context has {context.ids}")
        pairs = zip(frame.content[::-1], frame.size[::-1], strict=True)
        scale = [on_canvas / own for on_canvas, own in pairs] * 2
        for i in context.ids:
            prompt = given.get(i)
            if prompt is not None and not isinstance(prompt, BoxPrompt):
                raise ValueError(
                    f"SegIC takes boxes as prompts at the target, not {type(prompt).__name__}"
                )
            box = prompt.box if prompt else [torch.nan] * 4
            edges = [x * s for x, s in zip(box, scale, strict=True)]
            rows.append([*edges[:2], *(edge - 1 for edge in edges[2:])])
    return upload(rows, features.map.device, torch.float32).reshape(-1, 4)
