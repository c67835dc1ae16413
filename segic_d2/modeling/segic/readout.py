"""From mask logits to masks and scores: the one way there is.

Shapes: N entities of a target, M of a batch, r side of the low-resolution logits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ...structures.context import Context
from ...structures.features import Features
from ...structures.frame import Frame
from ...structures.segmentation import Segmentation
from ..layers.similarity import Similarity
from .mask_head import HeadOutput
from .refinement import Refinement

NOWHERE = -1e4  # logit of an entity that was not found, below any threshold also in fp16


class Readout:
    """How decoded logits are read (``MODEL.SEGIC.TEST``).

    Args:
        threshold: a pixel is foreground where its logit is above this.
        score: "mask": mean foreground probability inside the mask, 0 for an empty one; "quality":
            the IoU that the quality token expects; "quality_similarity": that times the highest
            similarity in the target, for where nothing is alike nothing is there.
        min_score: an entity with a lower score gets an empty mask; 0: never.
        second_look: of ``look_again``: what takes at most this share is seen again; 0: nothing.
    """

    def __init__(
        self,
        threshold: float = 0.0,
        score: str = "mask",
        min_score: float = 0.0,
        refinement: Refinement | None = None,
        second_look: float = 0.0,
    ) -> None:
        self.threshold, self.score, self.min_score = threshold, score, min_score
        self.second_look = second_look
        self.refinement = refinement or Refinement()

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Readout:
        test = cfg.MODEL.SEGIC.TEST
        refinement = Refinement(test.REFINE.RADIUS, test.REFINE.WALK)
        look = test.REFINE.SECOND_LOOK
        return cls(test.THRESHOLD, test.SCORE, test.MIN_SCORE, refinement, look)

    def __call__(
        self,
        out: HeadOutput,
        features: Features,
        contexts: Sequence[Context],
        similarity: Similarity,
    ) -> list[Segmentation]:
        """What the head's output of M entities means for each of B targets."""
        refined, scored = self._refined(out, features, contexts, similarity, self.refinement), []
        for frame, (logits, quality) in zip(features.frames, refined, strict=True):
            scores, kept = self.scored(logits, frame, quality)
            scored.append((kept, scores))
        maps = out.maps.split([len(c) for c in contexts])
        return _told(scored, maps, features, contexts, self.threshold)

    def decoded(
        self,
        out: HeadOutput,
        features: Features,
        contexts: Sequence[Context],
        similarity: Similarity,
    ) -> list[Tensor]:
        """Logits (N, r, r) of each of B targets, none of them left out. Edges are not refined: it
        is what cells get, and each entity's filter takes as long as its decoder."""
        walked = replace(self.refinement, radius=0)
        refined = self._refined(out, features, contexts, similarity, walked)
        return [logits for logits, _ in refined]

    def _refined(
        self,
        out: HeadOutput,
        features: Features,
        contexts: Sequence[Context],
        similarity: Similarity,
        refinement: Refinement,
    ) -> list[tuple[Tensor, Tensor]]:
        """Refined logits (N, r, r), and logits of the quality (N,), of each of B targets."""
        counts = [len(c) for c in contexts]
        logits = out.logits.float().split(counts)
        quality = self.instance_quality(out, out.similarity).split(counts)
        found = []
        for row, context in enumerate(contexts):
            walk = context.task != "instance"  # it joins what is alike
            refined = refinement(
                logits[row], features, row, similarity if walk else None, self.threshold
            )
            found.append((refined, quality[row]))
        return found

    def of_regions(
        self,
        chosen: Iterable[tuple[tuple[Tensor, Tensor], Tensor]],
        maps: Sequence[Tensor],
        features: Features,
        contexts: Sequence[Context],
    ) -> list[Segmentation]:
        """What chosen regions mean for each of B targets: ``chosen`` is of ``RegionMatcher``, its
        logits are foreground above 0, and which are small things; ``maps``: the propagated masks, B
        (N, r, r). The filter's window is half as wide for small things, which it would smooth
        away."""
        scored, finer = [], replace(self.refinement, radius=self.refinement.radius // 2)
        for row, ((logits, scores), small) in enumerate(chosen):
            refined = logits.clone()
            for how, rows in ((self.refinement, ~small), (finer, small)):
                if rows.any():
                    refined[rows] = how(logits[rows], features, row, None, 0.0).to(refined.dtype)
            scored.append((self._kept(refined, scores), scores))
        return _told(scored, maps, features, contexts, 0.0)

    def refined(
        self,
        logits: Tensor,
        features: Features,
        row: int = 0,
        similarity: Similarity | None = None,
        threshold: float | None = None,
    ) -> Tensor:
        """Logits (N, r, r) of one of the targets after ``MODEL.SEGIC.TEST.REFINE``; without
        ``similarity`` without the random walk. ``threshold``: above which they are foreground,
        None: that of the decoder's."""
        least = self.threshold if threshold is None else threshold
        return self.refinement(logits, features, row, similarity, least)

    def scored(self, logits: Tensor, frame: Frame, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (N,) of a target's entities, and their logits (N, r, r), ``NOWHERE`` all over
        where the score is below the minimum; ``quality`` (N,), logits of the scores, is not used by
        "mask"."""
        scores = self._scores(logits, frame, quality)
        return scores, self._kept(logits, scores)

    def _scores(self, logits: Tensor, frame: Frame, quality: Tensor) -> Tensor:
        by_mask = self.score == "mask"
        return mask_scores(logits, frame, self.threshold) if by_mask else quality.sigmoid()

    def _kept(self, logits: Tensor, scores: Tensor) -> Tensor:
        if not self.min_score:
            return logits
        return logits.masked_fill((scores < self.min_score)[:, None, None], NOWHERE)

    def instance_quality(self, out: HeadOutput, similarity: Tensor) -> Tensor:
        """Logits of the scores of M entities or P instance prompts, of these similarities."""
        quality = out.quality.float()
        if self.score != "quality_similarity":
            return quality
        return torch.logit(quality.sigmoid() * similarity.clamp(0, 1), eps=1e-6)


def _told(
    scored: Sequence[tuple[Tensor, Tensor]],
    maps: Sequence[Tensor],
    features: Features,
    contexts: Sequence[Context],
    threshold: float,
) -> list[Segmentation]:
    """Segmentations of logits (N, r, r) and scores (N,) of each of B targets."""
    found = []
    for row, (context, (logits, scores)) in enumerate(zip(contexts, scored, strict=True)):
        ids, names, frame = list(context.ids), list(context.names), features.frames[row]
        found.append(Segmentation(logits, scores, ids, names, frame, threshold, maps[row]))
    return found


def mask_scores(logits: Tensor, frame: Frame, threshold: float = 0.0) -> Tensor:
    """Mean foreground probability inside each mask, (N,); 0 for an empty mask.

    ``logits`` is float (N, r, r) over the canvas; the padding does not count.
    """
    rows, columns = frame.rows_columns(logits.shape[-1])
    logits = logits[:, :rows, :columns].flatten(1)
    inside = (logits > threshold).to(logits.dtype)
    return (logits.sigmoid() * inside).sum(1) / inside.sum(1).clamp(min=1)
