"""The losses of a training step: episodes, and the same episodes reversed.

Everything random follows from each sample's own seed, so that it does not depend on the batch, the
process or the worker that the sample falls into.

Shape shorthand: B episodes, N entities of an episode, M over all, S canvas side (px), g grid side
(cells).
"""

from functools import partial

import numpy as np
import torch
from torchvision.ops import masks_to_boxes

from ...structures.frame import on_canvas
from ...utils.devices import upload
from ..layers.correspondence import pool_mask
from .diagnostics import report_step, report_tasks
from .queries import Queries

_STYLE = 1  # of a seed: the draw of a style's share


def training_losses(model, episodes, features, contexts):
    """Losses of a batch; their sum is what is optimised.

    Where reversion is on, an episode that is reversed has half of its weight in each direction, and
    all processes report the same losses, whatever was drawn.

    Args:
        model: SegIC.
        episodes: B training episodes.
        features: Features of their B targets, then of all references in order.
        contexts: B Contexts.

    Returns:
        {"loss_mask", "loss_dice"}, "loss_quality" where it has a weight, and each with "_reversed"
        appended where reversion is on.
    """
    drawn = model.reversion.drawn(episodes)
    weights = [0.5 if both else 1.0 for both in drawn]
    targets, mixing = features[: len(episodes)], model.mixstyle > 0
    styles = features.map[first_references(episodes)] if mixing else None
    losses, logits = episode_losses(model, episodes, targets, contexts, weights, styles)
    report_step(model, episodes, features, contexts, logits)
    if not model.reversion.prob:
        return losses
    turned = reversed_losses(model, episodes, drawn, features, logits)
    zero = logits[0].new_zeros(())
    return losses | {f"{key}_reversed": turned.get(key, zero) for key in losses}


def reversed_losses(model, episodes, drawn, features, logits):
    """Losses of the reversed episodes, or {} if there are none.

    Their sums are divided by the number of masks that the references of all episodes show, drawn or
    not, so that the weight of an episode does not depend on the others' draws and predictions.

    Args:
        drawn: B bools, which episodes are reversed; logits: B float (N, 4g, 4g), the predictions.
    """
    shown = sum(len(r["entity_ids"]) for x in episodes for r in x["references"])
    count = model.criterion.num_masks(shown, model.device)  # every process asks, always
    sizes, maps = features.image_sizes, features.map
    weigh = partial(
        pool_mask, canvas=model.canvas, grid=maps.shape[-1], mode=model.input.mask_pooling
    )
    found = model.reversion.reverse(episodes, drawn, logits, sizes, model.canvas, weigh)
    if not found:
        return {}
    targets = features[[x.image for x in found]]
    contexts = [model.episode_context(x.episode, maps[x.sources]) for x in found]
    styles = maps[[x.sources[0] for x in found]] if model.mixstyle else None
    turned, weights = [x.episode for x in found], [0.5] * len(found)
    return episode_losses(model, turned, targets, contexts, weights, styles, count, "_reversed")[0]


def first_references(episodes):
    """Row of each episode's first reference among B targets and then all references: B ints."""
    counts = [len(x["references"]) for x in episodes]
    return [len(episodes) + sum(counts[:i]) for i in range(len(episodes))]


def mix_styles(features, styles, seeds, alpha):
    """Features with the mean and deviation of each channel drawn towards those of other pictures
    (MixStyle, Zhou et al., ICLR 2021), so that a decoder cannot rely on a picture's look.

    Where MixStyle shuffles a batch, each picture here mixes with one of its own episode: the result
    does not depend on the batch. The statistics are of the whole canvas, padding included.

    Args:
        features: float (B, C, g, g); styles: float (B, C, g, g), of the other pictures.
        seeds: B ints, which the share of the features' own statistics follows from: Beta(α, α).
        alpha: α > 0; small: nearly all of one or the other.

    Returns:
        float (B, C, g, g).
    """
    shares = [np.random.default_rng([seed, _STYLE]).beta(alpha, alpha) for seed in seeds]
    share = upload(shares, features.device, features.dtype)[:, None, None, None]
    (std, mean), (std_other, mean_other) = (
        torch.std_mean(x, dim=(2, 3), keepdim=True) for x in (features, styles)
    )
    unit = (features - mean) / std.clamp(min=1e-6)
    return unit * std_other.lerp(std, share) + mean_other.lerp(mean, share)


def episode_losses(model, episodes, features, contexts, weights, styles, count=None, suffix=""):
    """Losses of B episodes in one decoding pass, and their mask logits, B float (N, 4g, 4g).

    Args:
        features: Features of the B targets; contexts: B Contexts.
        styles: float (B, C, g, g), see ``mix_styles``; None: without.
        weights, count: see ``EpisodeCriterion``; suffix: of what is reported per task.
    """
    queries = Queries.from_contexts(contexts, model.released_prototype, model.input.eps)
    seeds = [x["seed"] for x in episodes]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    draws = torch.stack([torch.rand(2, generator=generator) for generator in generators])
    crossing = draws[:, 0] < model.cross_entity_prob * model.cross_entity
    targets = [on_canvas(x["masks"], model.canvas) for x in episodes]  # on the CPU, as they come
    ignores = [x.get("ignore") for x in episodes]
    boxes = box_prompts(targets, draws[:, 1] < model.box_prompt_prob)
    device = model.device
    maps = features.map
    out = model.sem_seg_head(
        maps,
        features.image_sizes,
        queries,
        crossing=crossing,  # on the CPU: the head asks whether any does
        boxes=None if boxes is None else upload(boxes, device),
        appearance=None if styles is None else mix_styles(maps, styles, seeds, model.mixstyle),
    )
    logits = out.logits.float().split(queries.counts)
    terms = model.criterion.per_mask(
        logits,
        [upload(target, device) for target in targets],
        [None if i is None else upload(on_canvas(i, model.canvas), device) for i in ignores],
        seeds,
        qualities=out.quality.float().split(queries.counts),
        sizes=features.image_sizes,
    )
    report_tasks(episodes, terms, suffix)
    return model.criterion.total(terms, weights, count), logits


def box_prompts(targets, boxed):
    """Tight boxes (M, 4) of the ground truth, xyxy in pixels, as prompts.

    Args:
        targets: B bool (N, S, S); boxed: bool (B,), which of them give their boxes.

    Returns:
        float (M, 4), NaN where an entity has none; None where no target gives its boxes.
    """
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
