"""A model with a fixed context that gives one label map per target, in two ways."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ...data import same_file
from ...modeling.protocol import InContextModel
from ...structures.context import Context
from ...structures.episode import Target

MODES = "all", "present"  # which classes compete: all, or those that the image shows
ENTITIES = 512  # whose low-resolution logits are held at once, but for a single image's


class OwnReferences:
    """A context of which a target never sees its own picture: at most ``shots`` references per
    class, of those that ``context.about["files"]`` names for each entity and shot."""

    def __init__(self, context: Context, shots: int) -> None:
        self.context, self.shots = context, shots
        self.places: dict[str, list[tuple[int, int]]] = {}
        for row, files in enumerate(context.about["files"]):
            for shot, file in enumerate(files):
                self.places.setdefault(same_file(file), []).append((row, shot))
        self.common = self._without([])

    def of(self, file_name: str) -> Context:
        """The first ``shots`` references of each class that are other images than the target, and
        the classes that have any."""
        places = self.places.get(same_file(file_name))
        return self._without(places) if places else self.common

    def left_out(self, records: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
        """{file name: ids of the classes whose only references are the target itself}."""
        shown = [r["file_name"] for r in records if same_file(r["file_name"]) in self.places]
        found = {file: sorted(set(self.context.ids) - set(self.of(file).ids)) for file in shown}
        return {file: lost for file, lost in found.items() if lost}

    def _without(self, places: Sequence[tuple[int, int]]) -> Context:
        shots = self.context.shots.clone()
        for place in places:
            shots[place] = False
        shots &= shots.cumsum(1) <= self.shots
        return self.context.take(shots.any(1).nonzero()[:, 0], shots)


class LabelMaps(nn.Module):
    """Targets with ``present`` (ids of the classes shown) → {"label_maps": {mode: int32 (H, W)}}. A
    target is encoded once for both modes. The classes of a mode are decoded together and see each
    other's visual tokens, as the model does with entities of an image. ``nothing`` is the label
    where no class takes a pixel; with ``always`` the best one does, however low its logit."""

    def __init__(
        self, model: InContextModel, references: OwnReferences, nothing: int, always: bool = False
    ) -> None:
        super().__init__()
        self.model, self.references = model, references
        self.context = references.context  # for the fingerprint of an interrupted evaluation
        self.nothing, self.always = nothing, always

    def forward(self, batched_inputs: Sequence[Target]) -> list[dict[str, Any]]:
        model, nothing = self.model, self.nothing
        features = model.encode_images(batched_inputs)
        own = [self.references.of(x["file_name"]) for x in batched_inputs]
        shown = [
            context.take([row for row, i in enumerate(context.ids) if i in set(x["present"])])
            for context, x in zip(own, batched_inputs, strict=True)
        ]
        results: list[dict[str, Any]] = [{"label_maps": {}} for _ in batched_inputs]
        for mode, contexts in zip(MODES, (own, shown), strict=True):
            for rows in _together(contexts):
                if len(contexts[rows[0]]):
                    found = model.segment(features[rows], [contexts[i] for i in rows])
                    maps = [f.labels(None if self.always else f.threshold, nothing) for f in found]
                else:  # see _together
                    size, device = features.frames[rows[0]].size, features.map.device
                    maps = [torch.full(size, nothing, dtype=torch.int32, device=device)]
                for row, labels in zip(rows, maps, strict=True):
                    results[row]["label_maps"][mode] = labels
        return results


def _together(contexts: Sequence[Context]) -> list[list[int]]:
    """Positions of contexts that are decoded in one pass; one without entities stands alone."""
    groups: list[list[int]] = []
    count = 0
    for i, context in enumerate(contexts):
        if not (count and len(context) and count + len(context) <= ENTITIES):
            groups.append([])
            count = 0
        groups[-1].append(i)
        count += len(context)
    return groups
