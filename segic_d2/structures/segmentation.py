"""What was found in one target, in Detectron2's forms.

Shape shorthand: N entities, H×W the target's own size.
"""

from collections.abc import Sequence

import torch
from detectron2.structures import BitMasks, Instances


def to_sem_seg(
    logits: torch.Tensor,
    ids: Sequence[int],
    num_classes: int,
    background: int | None = None,
    threshold: float = 0.0,
) -> torch.Tensor:
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


def to_instances(
    masks: torch.Tensor, scores: torch.Tensor, classes: torch.Tensor | Sequence[int]
) -> Instances:
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
