"""A model with a fixed context that gives two label maps per target."""

import torch
from torch import nn

from ...data import same_file
from ...structures.frame import merged_labels

MODES = "all", "present"  # which classes compete: all, or those that the image shows
ENTITIES = 512  # whose low-resolution logits are held at once, but for a single image's


class OwnReferences:
    """Gives each target a context without the target's own picture.

    Args:
        context: ``about["files"]`` names the reference of each entity and shot.
        shots: the most references per class and target. The context may have one more to spare.
    """

    def __init__(self, context, shots):
        self.context, self.shots = context, shots
        self.places = {}
        for row, files in enumerate(context.about["files"]):
            for shot, file in enumerate(files):
                self.places.setdefault(same_file(file), []).append((row, shot))
        self.common = self._without([])

    def of(self, file_name):
        """The context for a target: the first ``shots`` references of each class that are other
        images. Classes without any are left out."""
        places = self.places.get(same_file(file_name))
        return self._without(places) if places else self.common

    def left_out(self, records):
        """{file name: ids of the classes whose only references are the target itself}."""
        found = {}
        for file in (r["file_name"] for r in records):
            if same_file(file) in self.places:
                lost = set(self.context.ids) - set(self.of(file).ids)
                if lost:
                    found[file] = sorted(lost)
        return found

    def _without(self, places):
        shots = self.context.shots.clone()
        for place in places:
            shots[place] = False
        shots &= shots.cumsum(1) <= self.shots
        return self.context.take(shots.any(1).nonzero()[:, 0], shots)


class LabelMaps(nn.Module):
    """Maps targets to {"label_maps": {mode: int32 (H, W)}}.

    A target has ``present``, the ids of the classes that it shows. It is encoded once for both
    modes. The classes of a mode are decoded together and see each other's visual tokens, as
    entities of an image do.

    Args:
        model: ``SegIC``.
        references: ``OwnReferences``.
        threshold, nothing: see ``merged_labels``.
    """

    def __init__(self, model, references, threshold, nothing):
        super().__init__()
        self.model, self.references = model, references
        self.context = references.context  # for the fingerprint of an interrupted evaluation
        self.threshold, self.nothing = threshold, nothing

    def forward(self, batched_inputs):
        model = self.model
        features = model.encode_images(batched_inputs)
        own = [self.references.of(x["file_name"]) for x in batched_inputs]
        shown = [_those_of(c, x["present"]) for c, x in zip(own, batched_inputs, strict=True)]
        results = [{"label_maps": {}} for _ in batched_inputs]
        for mode, contexts in zip(MODES, (own, shown), strict=True):
            for rows in _together(contexts):
                maps = self._label_maps(batched_inputs, features, contexts, rows)
                for row, labels in zip(rows, maps, strict=True):
                    results[row]["label_maps"][mode] = labels
        return results

    def _label_maps(self, batched_inputs, features, contexts, rows):
        """Yield label maps of some of the targets, which are decoded in one pass."""
        model = self.model
        frames = [(features.image_sizes[i], *_size(batched_inputs[i])) for i in rows]
        if not len(contexts[rows[0]]):  # see _together
            yield torch.full(frames[0][1:], self.nothing, dtype=torch.int32, device=model.device)
            return
        chosen = [contexts[i] for i in rows]
        decoded = zip(chosen, *model.segment_scored(features[rows], chosen), frames, strict=True)
        for context, logits, quality, frame in decoded:
            _, logits = model.scored(logits, frame[0], quality)
            yield merged_labels(
                *(logits, context.ids, model.canvas, *frame),
                threshold=self.threshold,
                nothing=self.nothing,
            )


def _size(target):
    return target["height"], target["width"]


def _those_of(context, ids):
    """The entities of a context that have these ids."""
    wanted = set(ids)
    return context.take([row for row, i in enumerate(context.ids) if i in wanted])


def _together(contexts):
    """Group contexts that are decoded in one pass; one without entities stands alone."""
    groups, count = [], 0
    for i, context in enumerate(contexts):
        joins = groups and count and len(context) and count + len(context) <= ENTITIES
        if joins:
            groups[-1].append(i)
            count += len(context)
        else:
            groups.append([i])
            count = len(context)
    return groups
