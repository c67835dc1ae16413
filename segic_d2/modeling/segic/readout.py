"""From mask logits to scores: the rules of ``MODEL.SEGIC.TEST.SCORE`` and ``MIN_SCORE``.

Shape shorthand: N entities, r side of the low-resolution logits.
"""

import torch

NOWHERE = -1e4  # logit of an entity that was not found, below any threshold also in fp16


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
