"""What a training step looks like, in Detectron2's storage: a mean IoU, the losses of each task,
and now and then a picture.

Shape shorthand: B targets, n masks of one image, r side of the logits, S canvas side (px).
"""

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage

from ...structures.frame import masks_in_image, on_canvas, resize_to_image
from .quality import mask_iou

REFERENCES, ENTITIES = 4, 3  # of an episode, at most so many are drawn


@torch.no_grad()
def report_step(model, episodes, features, contexts, logits):
    """Put ``mask_iou`` and, every ``VIS_PERIOD`` iterations, a panel of the first episode.

    Both are of this process alone. Without a storage, outside a trainer, nothing happens.

    Args:
        model: SegIC, for its canvas, threshold and period.
        episodes: B episodes with ``masks``.
        features: Features, of the B targets first; contexts: B Contexts.
        logits: B float (n, r, r).
    """
    if not has_event_storage():
        return
    storage = get_event_storage()
    found = []  # of what there is to find
    for episode, low, size in zip(episodes, logits, features.image_sizes, strict=False):
        masks, ignore = episode["masks"], episode.get("ignore")
        shown = masks.flatten(1).any(1).to(low.device)
        truth = on_canvas(masks, model.canvas).to(low.device)
        unknown = None if ignore is None else on_canvas(ignore, model.canvas).to(low.device)
        found.append(mask_iou(low, truth, size, unknown, model.threshold)[shown])
    if len(found := torch.cat(found)):
        storage.put_scalar("mask_iou", found.mean())
    # only the main process has a writer, which empties the storage of its pictures
    if model.vis_period and storage.iter % model.vis_period == 0 and comm.is_main_process():
        (maps,) = model.propagated_mask(features[:1], contexts[:1])
        sheet = draw_episode(
            episodes[0], maps, logits[0], model.canvas, features.image_sizes[0], model.threshold
        )
        storage.put_image("episode", sheet.transpose(2, 0, 1))


@torch.no_grad()
def report_tasks(episodes, terms, suffix=""):
    """Put the losses of each task apart: "semantic/mask", "instance/dice", and so on.

    They are means over the masks of the task in this process, unweighted and not optimised: those
    are the entries that begin with "loss". Without a storage nothing happens.

    Args:
        episodes: B episodes; terms: their B dicts of ``EpisodeCriterion.per_mask``.
        suffix: behind each name.
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


def draw_episode(episode, maps, logits, canvas, image_size, threshold=0.0):
    """References with their masks, target, propagated masks, prediction and truth side by side.

    Args:
        episode: with ``masks`` bool (n, h, w) at network size.
        maps: float (n, r', r'), propagated masks; logits: float (n, r, r); both over the canvas.
        image_size: (h, w) of the target on the canvas.

    Returns:
        uint8 (H, W, 3); the colour of an entity is the same in every picture.
    """
    from ...utils.visualizer import heat_map, overlay, panel

    colour = {entity["id"]: i + 1 for i, entity in enumerate(episode["entities"])}
    pictures = []
    for reference in episode["references"][:REFERENCES]:
        ids = [colour[int(i)] for i in reference["entity_ids"]]
        picture = overlay(_picture(reference), reference["masks"].cpu() > 0.5, ids)
        pictures.append(("reference", picture))
    target, ids = _picture(episode), list(colour.values())
    pictures.append(("target", target))
    frame = canvas, image_size, *image_size
    shown = resize_to_image(maps[:ENTITIES].float(), *frame).cpu()
    for entity, one in zip(episode["entities"], shown, strict=False):
        title = f"propagated mask: {entity['name'] or entity['id']}"
        pictures.append((title, heat_map(target, one)))
    predicted = masks_in_image(logits, *frame, threshold).cpu()
    pictures.append(("prediction", overlay(target, predicted, ids)))
    pictures.append(("truth", overlay(target, episode["masks"].cpu(), ids)))
    return panel(pictures)


def _picture(view):
    """The image of an episode or reference as uint8 (h, w, 3); grey where it came as features."""
    if "image" not in view:
        return np.full((*view["image_size"], 3), 128, np.uint8)
    return view["image"].clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
