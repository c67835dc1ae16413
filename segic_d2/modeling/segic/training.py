"""The losses of a training step: episodes, and the same episodes reversed.

Everything random follows from each sample's own seed, so that it does not depend on the batch, the
process or the worker that the sample falls into.

Shapes: B episodes, N entities of an episode, M over all, S canvas side (px), g grid side (cells).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from detectron2.config import CfgNode
from torch import Tensor
from torchvision.ops import masks_to_boxes

from ...structures.context import Context
from ...structures.episode import Episode
from ...structures.features import Features
from ...utils.devices import upload
from .context_encoder import ContextEncoder
from .diagnostics import report_step, report_tasks
from .losses import EpisodeCriterion
from .mask_head import InContextMaskHead
from .queries import Queries
from .released import Rules
from .reversion import Reversion

_STYLE = 1  # of a seed: the draw of a style's share


@dataclass
class EpisodeLosses:
    """What a training step does with encoded episodes; the probabilities, per image, are that its
    entities see each other's visual tokens, and that of the true boxes as prompts; ``mixstyle``: α
    of ``mix_styles``, 0: off; ``vis_period``: see ``report_step``."""

    criterion: EpisodeCriterion = field(default_factory=EpisodeCriterion)
    reversion: Reversion = field(default_factory=Reversion)
    crossing_prob: float = 0.0
    box_prob: float = 0.0
    mixstyle: float = 0.0
    vis_period: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, rules: Rules) -> EpisodeLosses:
        m = cfg.MODEL.SEGIC
        criterion = EpisodeCriterion.from_config(cfg, rules.process_mean)
        reversion = Reversion.from_config(cfg, rules.keep_empty, rules.in_padding)
        crossing = m.CROSS_ENTITY.TRAIN_PROB * m.CROSS_ENTITY.ENABLED
        return cls(criterion, reversion, crossing, m.BOX_PROMPT_PROB, m.MIXSTYLE, cfg.VIS_PERIOD)

    def __call__(
        self,
        head: InContextMaskHead,
        encoder: ContextEncoder,
        episodes: Sequence[Episode],
        features: Features,
        contexts: Sequence[Context],
    ) -> dict[str, Tensor]:
        """Losses of a batch; their sum is what is optimised: {"loss_mask", "loss_dice"},
        "loss_quality" where it has a weight, and each with "_reversed" appended where reversion is
        on.

        Then an episode that is reversed has half of its weight in each direction, and all processes
        report the same losses, whatever was drawn. ``features`` are of the B targets, then of all
        references in order.
        """
        drawn = self.reversion.drawn(episodes)
        weights = [0.5 if both else 1.0 for both in drawn]
        targets = features[: len(episodes)]
        styles = features.map[first_references(episodes)] if self.mixstyle else None
        losses, logits = self._losses(head, episodes, targets, contexts, weights, styles)
        first, threshold = targets[:1].map, self.criterion.threshold

        def propagated() -> Tensor:
            return head.propagate(first, Queries.from_contexts(contexts[:1]))

        report_step(episodes, targets.frames, logits, threshold, self.vis_period, propagated)
        if not self.reversion.prob:
            return losses
        turned = self._reversed(head, encoder, episodes, drawn, features, logits)
        zero = logits[0].new_zeros(())
        return losses | {f"{key}_reversed": turned.get(key, zero) for key in losses}

    def of_masks(
        self, episodes: Sequence[Episode], features: Features, logits: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """Losses of what was found by whatever part, B float (N, r, r) over the canvas: of masks
        alone."""
        truth, ignores = _truth(episodes, features)
        truth = [upload(x, features.map.device) for x in truth]
        own, seeds = replace(self.criterion, quality_weight=0.0), [x["seed"] for x in episodes]
        return own.total(own.per_mask(logits, truth, ignores, seeds))

    def _reversed(
        self,
        head: InContextMaskHead,
        encoder: ContextEncoder,
        episodes: Sequence[Episode],
        drawn: Sequence[bool],
        features: Features,
        logits: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        """Losses of the reversed episodes, or {} if there are none."""
        # Their sums are divided by the number of masks that the references of all episodes show,
        # drawn or not, so that the weight of an episode does not depend on the others' draws and
        # predictions.
        shown = sum(len(r["entity_ids"]) for x in episodes for r in x["references"])
        maps, frames = features.map, features.frames
        count = self.criterion.num_masks(shown, maps.device)  # every process asks, always
        weigh = partial(encoder.weights, grid=maps.shape[-1])
        found = self.reversion.reverse(episodes, drawn, logits, frames, weigh)
        if not found:
            return {}

        targets, contexts = features[[x.image for x in found]], []
        for x in found:
            names = {e["id"]: e["name"] for e in x.episode["entities"]}
            own = maps[x.sources]
            contexts.append(encoder.from_masks(own, x.shots, names, x.episode["task"]))
        styles = maps[[x.sources[0] for x in found]] if self.mixstyle else None
        turned, weights = [x.episode for x in found], [0.5] * len(found)
        return self._losses(head, turned, targets, contexts, weights, styles, count, "_reversed")[0]

    def _losses(
        self,
        head: InContextMaskHead,
        episodes: Sequence[Episode],
        features: Features,
        contexts: Sequence[Context],
        weights: Sequence[float],
        styles: Tensor | None,
        count: float | None = None,
        suffix: str = "",
    ) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        """Losses of B episodes in one decoding pass, and their mask logits, B float (N, 4g, 4g)."""
        # features: of the B targets; styles: see ``mix_styles``; suffix: of the reports per task
        queries, maps = Queries.from_contexts(contexts), features.map
        seeds = [x["seed"] for x in episodes]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        draws = torch.stack([torch.rand(2, generator=generator) for generator in generators])
        targets, ignores = _truth(episodes, features)
        boxes = box_prompts(targets, draws[:, 1] < self.box_prob)
        out = head(
            maps,
            features.image_sizes,
            queries,
            crossing=draws[:, 0] < self.crossing_prob,  # on the CPU: the head asks whether any does
            boxes=None if boxes is None else upload(boxes, maps.device),
            appearance=None if styles is None else mix_styles(maps, styles, seeds, self.mixstyle),
        )
        logits = out.logits.float().split(queries.counts)
        qualities = out.quality.float().split(queries.counts)
        truth = [upload(target, maps.device) for target in targets]
        terms = self.criterion.per_mask(
            logits, truth, ignores, seeds, qualities, features.image_sizes
        )
        report_tasks(episodes, terms, suffix)
        return self.criterion.total(terms, weights, count), logits


def _truth(
    episodes: Sequence[Episode], features: Features
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Masks of B targets over the canvas, bool (N, S, S), on the CPU, as they come, and what is
    ignored, bool (S, S), on the features' device."""
    pairs = list(zip(features.frames, episodes, strict=True))
    ignores = [
        upload(frame.pad(x["ignore"]), features.map.device) if x.get("ignore") is not None else None
        for frame, x in pairs
    ]
    return [frame.pad(x["masks"]) for frame, x in pairs], ignores


def first_references(episodes: Sequence[Episode]) -> list[int]:
    """Row of each episode's first reference among B targets and then all references: B ints."""
    counts = [len(x["references"]) for x in episodes]
    return [len(episodes) + sum(counts[:i]) for i in range(len(episodes))]


def mix_styles(features: Tensor, styles: Tensor, seeds: Sequence[int], alpha: float) -> Tensor:
    """Features (B, C, g, g) with the mean and deviation of each channel drawn towards those of
    other pictures, ``styles`` (MixStyle, Zhou et al., ICLR 2021), so that a decoder cannot rely on
    a picture's look.

    Where MixStyle shuffles a batch, each picture here mixes with one of its own episode: the result
    does not depend on the batch. The statistics are of the whole canvas, padding included. The
    share of a picture's own statistics follows Beta(α, α) from its seed; small α: nearly all of
    one.
    """
    shares = [np.random.default_rng([seed, _STYLE]).beta(alpha, alpha) for seed in seeds]
    share = upload(shares, features.device, features.dtype)[:, None, None, None]
    (std, mean), (std_other, mean_other) = (
        torch.std_mean(x, dim=(2, 3), keepdim=True) for x in (features, styles)
    )
    unit = (features - mean) / std.clamp(min=1e-6)
    return unit * std_other.lerp(std, share) + mean_other.lerp(mean, share)


def box_prompts(targets: Sequence[Tensor], boxed: Tensor) -> Tensor | None:
    """Tight boxes (M, 4) of the ground truth, xyxy in pixels, NaN where an entity has none, as
    prompts; None where no target gives its boxes. ``targets``: B bool (N, S, S); ``boxed``: bool
    (B,), which of them give their boxes."""
    if not boxed.any():
        return None
    boxes = []
    for target, box in zip(targets, boxed.tolist(), strict=True):
        found = target.flatten(1).any(1)
        corners = torch.full((len(target), 4), torch.nan, device=target.device)
        if box and found.any():
            corners[found] = masks_to_boxes(target[found])
        boxes.append(corners)
    return torch.cat(boxes)
