"""The parts of the region head together: reference cells in, regions of targets out.

Shapes: B targets, N entities of one, K shots, k cells of a shot, C channels, g grid side (cells),
h×w cells of the content, n = h·w.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ....structures.context import Context
from ....structures.features import Features, tensor_hash
from ...layers.frozen_encoder import FrozenEncoder
from ...layers.similarity import Similarity
from .canvas import in_cells, on_canvas
from .cells import BACKGROUND, choose_cells, front, most_cells
from .choice import best_value, choose_regions, presence, regions_alike
from .completion import complete_area
from .evidence import Evidence, Told, gather
from .learned import LearnedChoice
from .linkage import connected_parts, link_regions, region_means
from .matching import Known, Matched, known, match
from .options import RegionOptions
from .positional import Debias
from .unmarked import find_unmarked
from .whitening import Whitening

FINER = 0.5  # the cut for small things, of that for others
REFERENCE = 0.75  # the cut for what is unmarked in a reference, of that
NEUTRAL = 1 / 3  # the decoder's probability that changes nothing
COVERED = 0.5  # of a part of a region by an instance's decoded mask, at least


@dataclass
class Seen:
    """A view of a reference: features (C', g, g), the (h, w) of its content in px, and the share of
    n masks in the cells, float (n, g, g)."""

    features: Tensor
    content: tuple[int, int]
    shares: Tensor


class RegionMatcher(nn.Module):
    """Chooses regions of targets by what reference cells say. Nothing of it is trained, but for
    what ``learned`` adds, if there is such a part."""

    def __init__(
        self,
        whitening: Whitening,
        stride: int,
        options: RegionOptions,
        calibration: Sequence[float] = (),
        learned: LearnedChoice | None = None,
    ) -> None:
        super().__init__()
        self.learned = learned
        self.whitening, self.stride, self.options = whitening, stride, options
        self.calibration = tuple(calibration)  # of ``score``, at this weight of the decoder
        self._calibrated_at = options.decoder

    @classmethod
    def from_config(cls, cfg: CfgNode, similarity: Similarity, channels: int) -> RegionMatcher:
        """The matcher of the blocks that a similarity propagates; C is their channels. Errors of
        ``Whitening.from_file`` and ``Debias``."""
        options, file = RegionOptions.from_config(cfg), cfg.MODEL.SEGIC.REGIONS.WHITENING
        groups = similarity.propagated
        used = channels // similarity.groups * groups
        debias = Debias(groups, used, options.debias)
        if file:
            found = Whitening.from_file(file, groups, used, debias)
        else:
            found = Whitening(groups, used, debias=debias)
        o = cfg.MODEL.SEGIC.REGIONS
        learned = LearnedChoice.from_file(o.LEARNED) if o.LEARNED else None
        return cls(found, similarity.stride, options, o.CALIBRATION, learned)

    def look(self, encoder: FrozenEncoder) -> None:
        """Ask a backbone for what is left out of its features, see ``Debias``; to be called before
        features of it are matched."""
        self.whitening.debias.look(encoder)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What its part of a context depends on."""
        found: dict[str, Any] = {"cells": self.options.cells, "groups": self.whitening.groups}
        found["whitening"] = self._hashes
        own = {name: getattr(self.options, name) for name in ("debias", "unmarked", "boxes")}
        return found | {name: value for name, value in own.items() if value}

    @cached_property
    def _hashes(self) -> list[str]:
        """Of the statistics, which are fixed; every picture asks for them."""
        held = [x for x in (self.whitening.mean, self.whitening.scaled) if x is not None]
        return [tensor_hash(x.cpu()) for x in held]

    def units(self, features: Tensor, content: tuple[int, int], whiten: bool = True) -> Tensor:
        """Unit features float32 (n, C) of the cells of (C', g, g) that hold any content, px."""
        rows, columns = self.cells_of(content)
        return self.whitening.units(features[:, :rows, :columns].flatten(1)[None], whiten)[0]

    def cells_of(self, content: tuple[int, int]) -> tuple[int, int]:
        """(h, w) in cells of a content in px."""
        height, width = (-(-x // self.stride) for x in content)
        return height, width

    def shots(self, cut: Seen, whole: Seen) -> dict[str, Tensor]:
        """What the entities of one reference are known by, as tensors (n, …) of a context: their
        "cell_prototypes" (2, C), "cells" half (k, C), "cell_counts" and "cell_shares" (k,), see
        ``Known``, and "cell_areas" (1,), the mask's share of the whole picture."""
        count = most_cells(self.options.cells, self.whitening.channels)
        near, far = (self.units(seen.features, seen.content) for seen in (cut, whole))
        shares, around = self._inside(cut), self._inside(whole)
        views = (near, shares), (far, around)
        means = [s / s.sum(1, keepdim=True).clamp(min=1e-8) @ u for u, s in views]
        alike = self._unmarked(near, shares, far, around, whole)
        chosen = [
            choose_cells(near, a, far, b, count, c)
            for a, b, c in zip(shares, around, alike, strict=True)
        ]
        found = {"cell_prototypes": torch.stack(means, 1), "cell_areas": around.mean(1, True)}
        if chosen:
            for name, own in (
                ("cells", "features"),
                ("cell_counts", "counts"),
                ("cell_shares", "shares"),
            ):
                found[name] = torch.stack([getattr(c, own) for c in chosen])
            return found
        empty = near.new_zeros(0, count)
        cells = near.new_zeros(0, count, near.shape[1]).half()
        return {**found, "cells": cells, "cell_counts": empty, "cell_shares": empty}

    def complete(
        self,
        view: Seen,
        whole: Seen,
        chances: Tensor | None,
        marked: Tensor | None = None,
        alone: bool = False,
    ) -> Tensor:
        """What of the n marked areas of a view is the thing, see ``complete_area``: bool (n, g, g).
        ``whole``: the whole picture. ``chances``: float (n, g, g), of the decoder, or None;
        ``marked``: bool (n, g, g), or None."""
        size = self.cells_of(view.content)
        units, far = (self.units(seen.features, seen.content) for seen in (view, whole))
        labels, kept = self._labels(view), torch.zeros_like(view.shares, dtype=torch.bool)
        free = self._inside(whole) < BACKGROUND
        for row, share in enumerate(self._inside(view)):
            chance, sure = (
                None if x is None else x[row, : size[0], : size[1]].flatten()
                for x in (chances, marked)
            )
            found = complete_area(units, labels, front(share), chance, far[free[row]], sure, alone)
            kept[row, : size[0], : size[1]] = found.view(size)
        return kept

    def about(self, view: Seen, cells: Tensor, apart: bool = True) -> Tensor:
        """The regions of a view that hold cells bool (n, g, g), or only the connected parts of
        them that do: bool (n, g, g)."""
        (rows, columns), labels = self.cells_of(view.content), self._labels(view)
        parts = connected_parts(labels, (rows, columns)) if apart else labels
        found = torch.zeros_like(cells)
        for row, own in enumerate(cells[:, :rows, :columns].flatten(1).cpu()):
            inside = torch.isin(parts, parts[own]).view(rows, columns)
            found[row, :rows, :columns] = inside.to(cells.device)
        return found

    def _labels(self, view: Seen, share: float = 1.0) -> Tensor:
        """The regions of a reference's view, int64 (n,), by a share of the cut."""
        plain = self.units(view.features, view.content, whiten=False)
        cuts = (share * self.options.cut,)
        return link_regions(plain, self.cells_of(view.content), cuts, self.options.position)[0]

    def _unmarked(
        self, near: Tensor, shares: Tensor, far: Tensor, around: Tensor, whole: Seen
    ) -> Sequence[Tensor | None]:
        """Which cells of the whole picture each mask leaves unmarked, see ``find_unmarked``; not
        those that another mask marks."""
        if not self.options.unmarked or not len(shares):
            return [None] * len(shares)
        size, labels = self.cells_of(whole.content), self._labels(whole, REFERENCE)
        marked = (around >= BACKGROUND).any(0)
        found: list[Tensor | None] = []
        for a, b in zip(shares, around, strict=True):
            alike = find_unmarked(near, a, far, b, labels, size, self.options.unmarked)
            found.append(alike & ~marked)
        return found

    def _inside(self, seen: Seen) -> Tensor:
        """Shares of the masks in the cells of the content, (n masks, n)."""
        rows, columns = self.cells_of(seen.content)
        return seen.shares[:, :rows, :columns].flatten(1)

    def label(self, features: Features) -> list[Tensor]:
        """The regions of each target by the cuts for others and for small things, int64 (2, n), on
        the CPU; they stay with the features."""
        if features.regions is None:
            found: list[Tensor] = []
            for row, (own, frame) in enumerate(zip(features.map, features.frames, strict=True)):
                if row and torch.equal(own, features.map[row - 1]):
                    found.append(found[-1])  # the same target again, of another episode
                    continue
                units = self.units(own, frame.content, whiten=False)
                size, options = self.cells_of(frame.content), self.options
                cuts = options.cut, FINER * options.cut
                found.append(link_regions(units, size, cuts, options.position))
            features.regions = found
        return features.regions

    def forward(
        self,
        features: Features,
        contexts: Sequence[Context],
        decoded: Sequence[Tensor] | None = None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Logits (N, 4g, 4g) over the canvas, above 0 where an entity is, and scores (N,), the mean
        of its shots' ``score``, of each of B targets.
        ``decoded``: the decoder's logits (N, r, r) for each; None: it is not asked."""
        found, grid = [], features.map.shape[-1]
        for row, (context, cuts) in enumerate(zip(contexts, self.label(features), strict=True)):
            size = self.cells_of(features.frames[row].content)
            shown, small = known(context), self.small(context)
            own = self.units(features.map[row], features.frames[row].content)
            matched = match(own, shown, self.options.cues)
            each, by_shot = matched.shots or matched, small[shown.entity]
            by_cells = self._by_cut(by_shot, cuts, presence, each)  # without the decoder
            if decoded is not None:
                self._cue(matched, decoded[row], grid, size)
            told = self.score(by_cells, self._by_cut(by_shot, cuts, best_value, each))
            scores = shown.mean(told[:, None])[:, 0]
            logits = self._chosen(matched, cuts, small, self._plain(features, row))
            if self.learned is not None:
                chance = None
                if decoded is not None:
                    chance = in_cells(decoded[row].float().sigmoid(), grid, size)
                said = Told(matched.values, chance, logits, small, matched.said)
                areas = context.tensors["cell_areas"][context.shots][:, 0]
                with torch.no_grad():
                    more = self.learned(self._evidence(features, row, own, shown, areas, said))
                logits = logits + more
            found.append((on_canvas(logits.unflatten(1, size), grid), scores))
        return found

    def _evidence(
        self, features: Features, row: int, own: Tensor, shown: Known, areas: Tensor, told: Told
    ) -> Evidence:
        """What ``learned`` sees of one of the targets, whose ``units`` are ``own``."""
        content = features.frames[row].content
        plain = self.units(features.map[row], content, whiten=False)
        labels = self.label(features)[row]
        return gather(own, plain, shown, areas, told, labels, self.cells_of(content))

    def score(self, presences: Tensor, values: Tensor) -> Tensor:
        """Scores (M,) in [0, 1] of shots by ``presence`` and by the value of their best region,
        float (M,): the probability that a mask overlaps the thing by half, as tools/calibrate.py
        fitted it (``MODEL.SEGIC.REGIONS.CALIBRATION``); without, or where the decoder's weight was
        tuned, presence itself."""
        if not self.calibration or self.options.decoder != self._calibrated_at:
            return presences
        offset, by_presence, by_value = self.calibration
        return (offset + by_presence * presences + by_value * values).sigmoid()

    def _by_cut(
        self,
        small: Tensor,
        cuts: Tensor,
        measure: Callable[[Matched, Tensor], Tensor],
        matched: Matched,
    ) -> Tensor:
        """What a measure of regions says by those of the cut that each entity needs: (N,)."""
        near, fine = (measure(matched, labels) for labels in cuts)
        return torch.where(small, fine, near)

    @torch.no_grad()
    def prompted(
        self, features: Features, context: Context, entity: Tensor, logits: Tensor, threshold: float
    ) -> Tensor:
        """Logits (P, 4g, 4g) over the canvas of P instance prompts in one target, above 0 where
        they are: each takes, of the regions that its entity chooses with the prompt's own decoded
        probability as the cue, the connected parts of which its decoded mask covers at least half,
        for equal things of a picture may be one region. What takes none is nowhere above 0.

        Args:
            features: of the target alone. entity: int64 (P,), rows of the context.
            logits: float (P, r, r), decoded; masks are above ``threshold``.
        """
        size, grid = self.cells_of(features.frames[0].content), features.map.shape[-1]
        matched = self._matched(features, 0, known(context))[entity]
        self._cue(matched, logits, grid, size)
        (cuts,), small = self.label(features), self.small(context)[entity]
        chosen = self._chosen(matched, cuts, small, self._plain(features, 0))
        inside = in_cells((logits > threshold).float(), grid, size)
        parts = (connected_parts(labels, size).to(inside.device) for labels in cuts)
        large, fine = (region_means(inside, part)[0][:, part] for part in parts)
        covered = torch.where(small[:, None], fine, large)
        # as far below 0 as above, so that edges between parts stay in the middle
        chosen = torch.where(covered < COVERED, -chosen.abs(), chosen)
        return on_canvas(chosen.unflatten(1, size), grid)

    def _matched(self, features: Features, row: int, shown: Known) -> Matched:
        own = self.units(features.map[row], features.frames[row].content)
        return match(own, shown, self.options.cues)

    def _plain(self, features: Features, row: int) -> Tensor | None:
        """Features (n, C) by which regions are alike, None: that does not count."""
        if not self.options.aggregate:
            return None
        return self.units(features.map[row], features.frames[row].content, whiten=False)

    def _cue(self, matched: Matched, logits: Tensor, grid: int, size: tuple[int, int]) -> None:
        """Add what the decoder says, logits (N, r, r), in the cells of the content."""
        cue = self.options.decoder * (in_cells(logits.float().sigmoid(), grid, size) - NEUTRAL)
        matched.values += cue
        if matched.shots is not None:
            matched.shots.values += cue[matched.shots.entity]

    def small(self, context: Context) -> Tensor:
        """Which entities are small things in their references: bool (N,)."""
        areas = context.mean_over_shots("cell_areas")
        assert areas is not None  # of this kind of contexts
        return areas[:, 0] < self.options.small

    def _chosen(
        self, matched: Matched, cuts: Tensor, small: Tensor, plain: Tensor | None
    ) -> Tensor:
        """Logits (N, n) by the regions of the cut that each entity needs; with ``plain`` features
        (n, C), regions like the best one gain by it."""
        found, alike, options = [], None, self.options
        for labels in cuts.to(matched.values.device):
            if plain is not None:
                alike = options.aggregate * regions_alike(plain, labels)
            logits = choose_regions(
                matched.values, labels, options.relative, options.threshold, alike
            )
            found.append(logits)
        return torch.where(small[:, None], found[1], found[0])
