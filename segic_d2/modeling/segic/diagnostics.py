"""What a training step looks like, in Detectron2's storage: a mean IoU, the losses of each task,
and now and then a picture.

Shapes: B targets, n masks of one image, r side of the logits, S canvas side (px).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor

from ...structures.episode import Episode, Reference
from ...structures.frame import Frame
from .quality import mask_iou

REFERENCES, ENTITIES = 4, 3  # of an episode, at most so many are drawn


@torch.no_grad()
def report_step(
    episodes: Sequence[Episode],
    frames: Sequence[Frame],
    logits: Sequence[Tensor],
    threshold: float,
    vis_period: int,
    propagate: Callable[[], Tensor],
) -> None:
    """Put ``mask_iou`` and, every ``vis_period`` (0: never) iterations, a panel of the first
    episode. Both are of this process alone. Without a storage, outside a trainer, nothing happens.

    Logits are B float (n, r, r), above ``threshold`` where a cell is predicted; ``propagate`` gives
    the propagated masks of the first episode, float (n, r', r').
    """
    if not has_event_storage():
        return
    storage = get_event_storage()
    found = []  # of what there is to find
    for episode, low, frame in zip(episodes, logits, frames, strict=True):
        masks, ignore = episode["masks"], episode.get("ignore")
        shown = masks.flatten(1).any(1).to(low.device)
        truth = frame.pad(masks).to(low.device)
        unknown = None if ignore is None else frame.pad(ignore).to(low.device)
        found.append(mask_iou(low, truth, frame.content, unknown, threshold)[shown])
    if len(ious := torch.cat(found)):
        storage.put_scalar("mask_iou", ious.mean())
    # only the main process has a writer, which empties the storage of its pictures
    if vis_period and storage.iter % vis_period == 0 and comm.is_main_process():
        sheet = draw_episode(episodes[0], propagate(), logits[0], frames[0], threshold)
        storage.put_image("episode", sheet.transpose(2, 0, 1))


@torch.no_grad()
def report_tasks(
    episodes: Sequence[Episode], terms: Sequence[dict[str, Tensor]], suffix: str = ""
) -> None:
    """Put the losses of each task apart: "semantic/mask", "instance/dice", and so on.

    They are means over the masks of the task in this process, unweighted and not optimised: those
    are the entries that begin with "loss". Without a storage nothing happens. ``terms``: B dicts of
    ``EpisodeCriterion.per_mask``; ``suffix``: behind each name.
    """
    if not has_event_storage():
        return
    means = {}
    for task in sorted({episode["task"] for episode in episodes}):
        own = [x for episode, x in zip(episodes, terms, strict=True) if episode["task"] == task]
        for name in own[0]:
            means[f"{task}/{name}{suffix}"] = torch.cat([x[name] for x in own]).mean()
    values = torch.stack(list(means.values())).tolist()  # one transfer from the GPU
    get_event_storage().put_scalars(**dict(zip(means, values, strict=True)))


def draw_episode(
    episode: Episode, maps: Tensor, logits: Tensor, frame: Frame, threshold: float = 0.0
) -> np.ndarray:
    """References with their masks, target, propagated masks, prediction and truth side by side:
    uint8 (H, W, 3); the colour of an entity is the same in every picture. The episode has ``masks``
    bool (n, h, w) at network size; ``maps``, float (n, r', r'), are propagated masks, and logits
    float (n, r, r), both over the canvas."""
    from ...utils.visualizer import heat_map, overlay, panel

    colour = {entity["id"]: i + 1 for i, entity in enumerate(episode["entities"])}
    pictures = []
    for reference in episode["references"][:REFERENCES]:
        ids = [colour[int(i)] for i in reference["entity_ids"]]
        picture = overlay(_picture(reference), reference["masks"].cpu() > 0.5, ids)
        pictures.append(("reference", picture))
    target, ids = _picture(episode), list(colour.values())
    pictures.append(("target", target))
    here = replace(frame, size=frame.content)
    shown = here.upsample(maps[:ENTITIES].float()).cpu()
    for entity, one in zip(episode["entities"], shown, strict=False):
        title = f"propagated mask: {entity['name'] or entity['id']}"
        pictures.append((title, heat_map(target, one)))
    predicted = here.masks(logits, threshold).cpu()
    pictures.append(("prediction", overlay(target, predicted, ids)))
    pictures.append(("truth", overlay(target, episode["masks"].cpu(), ids)))
    return panel(pictures)


def _picture(view: Episode | Reference) -> np.ndarray:
    """The image of an episode or reference as uint8 (h, w, 3); grey where it came as features."""
    if "image" not in view:
        return np.full((*view["image_size"], 3), 128, np.uint8)
    return view["image"].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
