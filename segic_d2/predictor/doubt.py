"""How doubtful the answer for a picture is, so that people look at the most doubtful ones first.

What else was tried, second opinions among it, is in docs/label.md.
"""

from __future__ import annotations

import torch

from ..structures.segmentation import Doubt, Segmentation, require_finite


@torch.no_grad()
def doubt(found: Segmentation, least: float) -> Doubt:
    """The doubt of one picture, from 0 to 1: the mean over all entities of its context.

    An entity that is shown is as doubtful as 1 − its score × how firm its mask is, the mean over
    the mask of 2 p − 1, p a pixel's probability. One that is left out is as doubtful as its score
    is near the level by which it was: score / ``least``, at most 1; or, at the level 0, its score.

    Args:
        found: what the model says of all entities, before they compete.
        least: the level that ``Segmentation.compete`` gets, such as ``model.absent``.

    Raises:
        ValueError: a score that is NaN or infinite; the file is named.
    """
    require_finite(torch.as_tensor(found.scores), found.file_name)
    if not len(found):
        return Doubt(0.0, 0.0, "")
    scores = torch.as_tensor(found.compete().scores).double()  # of what is left out, too
    doubts = (scores / (least or 1.0)).clamp(max=1)
    shown = found.compete(least)
    rows, columns = shown.frame.rows_columns(shown.logits.shape[-1])
    above = (shown.logits - shown.threshold)[:, :rows, :columns].flatten(1).double()
    inside = above > 0
    firm = ((above / 2).tanh() * inside).sum(1) / inside.sum(1).clamp(min=1)  # 2 p − 1
    marked = set()
    for i, has, own in zip(shown.ids, inside.any(1).tolist(), firm, strict=True):
        if has:
            row = found.ids.index(i)
            doubts[row] = 1 - scores[row] * own
            marked.add(row)
    worst = int(doubts.argmax())
    title = found.names[worst] or f"entity {found.ids[worst]}"
    said = "" if worst in marked else ", left out"
    why = f"{title} {float(scores[worst]):.2f}{said}"
    return Doubt(float(doubts.mean()), float(doubts[worst]), why)
