"""The losses of a training step: episodes, and the same episodes reversed.

Everything random follows from each sample's own seed, so that it does not depend on the batch, the
process or the worker that the sample falls into.

Shape shorthand: B episodes, N entities of an episode, M over all, S canvas side (px), g grid side
(cells).
"""

from functools import partial

import torch
from torchvision.ops import masks_to_boxes

from .context import Queries
from .correspondence import pool_mask
from .diagnostics import report_step, report_tasks
from .outputs import on_canvas


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
    losses, logits = episode_losses(model, episodes, features[: len(episodes)], contexts, weights)
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
    weigh = partial(pool_mask, canvas=model.canvas, grid=maps.shape[-1], mode=model.mask_pooling)
    found = model.reversion.reverse(episodes, drawn, logits, sizes, model.canvas, weigh)
    if not found:
        return {}
    targets = features[[x.image for x in found]]
    contexts = [model.episode_context(x.episode, maps[x.sources]) for x in found]
    turned, weights = [x.episode for x in found], [0.5] * len(found)
    return episode_losses(model, turned, targets, contexts, weights, count, "_reversed")[0]


def episode_losses(model, episodes, features, contexts, weights, count=None, suffix=""):
    """Losses of B episodes in one decoding pass, and their mask logits, B float (N, 4g, 4g).

    Args:
        features: Features of the B targets; contexts: B Contexts.
        weights, count: see ``EpisodeCriterion``; suffix: of what is reported per task.
    """
    queries = Queries.from_contexts(contexts, model.released_prototype, model.eps)
    seeds = [x["seed"] for x in episodes]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    draws = torch.stack([torch.rand(2, generator=generator) for generator in generators])
    crossing = draws[:, 0] < model.cross_entity_prob * model.cross_entity
    targets = [on_canvas(x["masks"], model.canvas).to(model.device) for x in episodes]
    ignores = [x.get("ignore") for x in episodes]
    out = model.sem_seg_head(
        features.map,
        features.image_sizes,
        queries,
        crossing=crossing.to(model.device),
        boxes=box_prompts(targets, draws[:, 1] < model.box_prompt_prob),
    )
    logits = out.logits.float().split(queries.counts)
    terms = model.criterion.per_mask(
        logits,
        targets,
        [None if i is None else on_canvas(i, model.canvas).to(model.device) for i in ignores],
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
