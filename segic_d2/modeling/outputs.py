"""From mask logits to what people and Detectron2's stock evaluators read.

Shape shorthand: N entities, r side of the low-resolution logits, H×W the target's own size.
"""

import torch
from detectron2.modeling.postprocessing import sem_seg_postprocess
from detectron2.structures import BitMasks, Instances
from torch.nn import functional as F

FULL_SIZE_PIXELS = 2**22  # of full-size logits held at once
NOWHERE = -1e4  # logit of an entity that was not found, below any threshold also in fp16


def on_canvas(masks, canvas):
    """Pad masks (…, h, w) right and bottom to (…, S, S)."""
    return F.pad(masks, (0, canvas - masks.shape[-1], 0, canvas - masks.shape[-2]))


def resize_to_image(maps, canvas, image_size, height, width):
    """Maps (N, r, r) over the canvas → (N, height, width): bilinear to the canvas, content cut out,
    bilinear to the target's own size."""
    full = F.interpolate(maps[None], (canvas, canvas), mode="bilinear", align_corners=False)[0]
    if tuple(image_size) == (height, width):  # the last step would change nothing
        return full[:, :height, :width]
    return sem_seg_postprocess(full, image_size, height, width)


def masks_in_image(logits, canvas, image_size, height, width, threshold=0.0):
    """Masks at the target's own size, bool (N, height, width), of logits (N, r, r).

    Full-size logits of N entities are gigabytes where N is large, so that they exist for a few
    entities at a time.
    """
    masks = torch.empty(len(logits), height, width, dtype=torch.bool, device=logits.device)
    at_once = max(1, FULL_SIZE_PIXELS // max(canvas * canvas, height * width))
    for start in range(0, len(logits), at_once):
        part = slice(start, start + at_once)
        full = resize_to_image(logits[part], canvas, image_size, height, width)
        torch.gt(full, threshold, out=masks[part])
    return masks


def mask_scores(logits, canvas, image_size, threshold=0.0):
    """Mean foreground probability inside each mask, (N,); 0 for an empty mask.

    ``logits`` is float (N, r, r) over the canvas; the padding does not count.
    """
    side = logits.shape[-1]
    height, width = (max(1, round(x * side / canvas)) for x in image_size)
    logits = logits[:, :height, :width].flatten(1)
    inside = (logits > threshold).to(logits.dtype)
    return (logits.sigmoid() * inside).sum(1) / inside.sum(1).clamp(min=1)


def scores_of(rule, logits, quality, canvas, image_size, threshold=0.0):
    """Scores (N,) of the entities of a target (``MODEL.SEGIC.TEST.SCORE``).

    Args:
        rule: "mask": ``mask_scores``; others: what ``quality_of`` says.
        quality: its result (N,), not needed by "mask".

    Raises:
        ValueError: the rule needs estimates and there are none.
    """
    if rule == "mask":
        return mask_scores(logits, canvas, image_size, threshold)
    if quality is None:
        raise ValueError(
            f"MODEL.SEGIC.TEST.SCORE is {rule!r}, but no quality estimates were given: "
            "take them from segment_scored"
        )
    return quality.sigmoid()


def quality_of(rule, quality, similarity):
    """Logits (N,) of the scores of entities (``MODEL.SEGIC.TEST.SCORE``).

    Args:
        rule: "quality_similarity": the IoU that the quality token expects times the highest
            similarity in the target, for where nothing is alike nothing is there; others: that IoU.
        quality: the token's estimates (N,), logits.
        similarity: (N,), see ``HeadOutput``; of an instance prompt, that at its own peak.
    """
    if rule != "quality_similarity":
        return quality
    return torch.logit(quality.sigmoid() * similarity.clamp(0, 1), eps=1e-6)


def abstain(logits, scores, min_score):
    """Logits (N, r, r), ``NOWHERE`` all over for entities whose score (N,) is below a minimum."""
    if min_score <= 0:
        return logits
    return logits.masked_fill((scores < min_score)[:, None, None], NOWHERE)


def to_sem_seg(logits, ids, num_classes, background=None, threshold=0.0):
    """Class-wise logits for the stock SemSegEvaluator, which takes the arg-max.

    Args:
        logits: float (N, H, W), one class each.
        ids: N class ids in [0, num_classes).
        background: class that wins where no logit passes ``threshold``; None: there is none.

    Returns:
        float (num_classes, H, W); −inf for a class that was not asked for.

    Raises:
        ValueError: an id out of range or given twice.
    """
    if len(set(ids)) != len(ids) or not all(0 <= i < num_classes for i in ids):
        raise ValueError(f"entity ids {ids} are not distinct classes below {num_classes}")
    out = logits.new_full((num_classes, *logits.shape[-2:]), -torch.inf)
    out[ids] = logits
    if background is not None:
        out[background] = threshold
    return out


def to_label_map(logits, ids, background=0, threshold=0.0):
    """One label per pixel, int64 (H, W): the id of the highest logit (N, H, W) above the
    threshold, ``background`` where none is."""
    best, index = logits.max(dim=0)
    labels = torch.as_tensor(ids, device=logits.device)[index]
    return torch.where(best > threshold, labels, background)


def merged_labels(logits, ids, canvas, image_size, height, width, *, threshold=0.0, nothing=255):
    """``to_label_map`` at the target's own size, of low-resolution logits of many entities.

    Full-size logits of hundreds of classes are gigabytes. So the running best of each pixel is
    kept, and they exist for a few entities at a time.

    Args:
        logits: float (N, r, r) over the canvas.
        ids: N labels in [0, 65535].
        canvas, image_size, height, width: see ``resize_to_image``.
        threshold: an entity takes a pixel only with a logit above it; None: the best always does.
        nothing: the label where no entity takes the pixel.

    Returns:
        int32 (height, width); of equal logits the first entity wins.
    """
    best = logits.new_full((height, width), -torch.inf if threshold is None else threshold)
    labels = torch.full((height, width), nothing, dtype=torch.int32, device=logits.device)
    own = torch.as_tensor(list(ids), dtype=torch.int32, device=logits.device)
    at_once = max(1, FULL_SIZE_PIXELS // max(canvas * canvas, height * width))
    for start in range(0, len(logits), at_once):
        part = slice(start, start + at_once)
        full = resize_to_image(logits[part], canvas, image_size, height, width)
        value, index = full.max(0)
        better = value > best
        labels = torch.where(better, own[part][index], labels)
        best = torch.where(better, value, best)
    return labels


def to_instances(masks, scores, classes):
    """Detectron2 Instances of the non-empty masks, for the stock COCOEvaluator.

    Args:
        masks: bool (N, H, W); scores: float (N,); classes: N contiguous class ids.
    """
    keep = masks.flatten(1).any(1)
    found = Instances(tuple(masks.shape[-2:]))
    found.pred_masks = masks[keep]
    found.scores = scores[keep]
    found.pred_classes = torch.as_tensor(classes, device=masks.device)[keep]
    found.pred_boxes = BitMasks(masks[keep]).get_bounding_boxes()
    return found
