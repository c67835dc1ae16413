"""A model in sixty lines: its context is the mean colour under the mask, its segment a distance."""

import torch
from torch.nn import functional as F

from segic_d2.modeling.protocol import InContextModel, one_each
from segic_d2.structures.context import Context
from segic_d2.structures.features import Features, image_size, own_size
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from segic_d2.structures.view import InputSpec

CELLS = 28


class MeanColour(InContextModel):
    """Says that what has the reference's colour is the thing."""

    def __init__(self, canvas=112, near=60.0):
        super().__init__()
        self.near, self.spec = near, InputSpec(canvas, (0.0,) * 3, (1.0,) * 3)

    @property
    def input(self):
        return self.spec

    @property
    def fingerprint(self):
        return {"model": "mean colour", **self.spec.fingerprint}

    def encode_images(self, images):
        views = [{"image": x} if isinstance(x, torch.Tensor) else x for x in images]
        frames = [Frame(self.spec.canvas, image_size(x), own_size(x)) for x in views]
        padded = [f.pad(x["image"].float()) for f, x in zip(frames, views, strict=True)]
        return Features(F.adaptive_avg_pool2d(torch.stack(padded), CELLS), frames)

    def encode_context(self, references, names=None, task="semantic"):
        found = {}
        for x in references:
            pixels = x["image"].float()
            for i, mask in zip(x["entity_ids"], x["masks"], strict=True):
                found.setdefault(int(i), []).append((pixels * mask).sum((1, 2)) / mask.sum())
        names = names or dict.fromkeys(found)
        shots = torch.zeros(len(names), max(map(len, found.values())), dtype=torch.bool)
        colours = torch.zeros(*shots.shape, 3)
        for row, i in enumerate(names):
            shots[row, : len(found[i])] = True
            colours[row, : len(found[i])] = torch.stack(found[i])
        about = dict(ids=list(names), names=list(names.values()), task=task)
        about.update(tensors={"colours": colours}, meta=None, fingerprint=self.fingerprint)
        return Context("colours", shots, **about)

    def segment(self, features, context, prompts=None):
        found, each = [], one_each(context, len(features))
        for cells, frame, own in zip(features.map, features.frames, each, strict=True):
            colours = own.mean_over_shots("colours")
            logits = self.near - (cells[None] - colours[:, :, None, None]).norm(dim=1)
            scores = logits.amax((1, 2)).sigmoid()
            found.append(Segmentation(logits, scores, own.ids, own.names, frame))
        return found
