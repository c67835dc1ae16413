"""Every entry of the reference files, computed by this package: losses, prompts, and which case is
computed by what."""

import re

import torch

from segic_d2.modeling.segic import released
from segic_d2.modeling.segic.losses import draws_of, mask_losses, point_sample, sample_points
from tests.modeling.golden import REFERENCES
from tests.modeling.golden_inference import Inference, Unknown
from tests.modeling.golden_video import Video


class Losses:
    """Case F: losses of given logits and labels, at points drawn from seed 0."""

    def __init__(self, golden):
        self.criterion = golden.model("A").criterion.criterion
        self.logits = golden.tensors["F/in/logits"][:, 0].requires_grad_()  # (n, r, r)
        self.labels = golden.tensors["F/in/labels"][:, 0]  # (n, S, S)
        with draws_of(0, self.logits.device):
            self.points = sample_points(self.logits, self.criterion.num_points)

    def entry(self, name):
        if name == "point_coords":
            return self.points
        if name in ("point_logits", "point_labels"):
            maps = self.logits if name == "point_logits" else self.labels
            return point_sample(maps[:, None], self.points, align_corners=False)[:, 0]
        given = re.fullmatch(r"nm(\d+)/(\w+)", name)
        losses = self.averaged(int(given[1])) if given else self.of_a_batch()
        name = given[2] if given else name
        if name == "grad_logits":
            return torch.autograd.grad(losses["loss_mask"] + losses["loss_dice"], self.logits)[0]
        if name not in losses:
            raise Unknown(f"no computation for F/{name}")
        return losses[name]

    def of_a_batch(self):
        """The losses as in training: num_masks is the number of masks."""
        terms = self.criterion.per_mask([self.logits], [self.labels > 0.5], [None], [0])
        return self.criterion.total(terms)

    def averaged(self, num_masks):
        terms = mask_losses(self.logits, self.labels, self.points)
        mask, dice = released.average_losses(*terms, num_masks)
        return {"loss_mask": mask, "loss_dice": dice}


class Prompts:
    """Case X: the prompt encoder called directly."""

    def __init__(self, golden):
        self.tensors, self.encoder = golden.tensors, golden.model("A").sem_seg_head.prompt_encoder

    def entry(self, name):
        points, labels, boxes = (
            self.tensors[f"X/in/{k}"] for k in ("points", "point_labels", "boxes")
        )
        if name == "sparse_points_boxes_text":  # the input of the text token is not stored
            encoded = self.encoder.encode_points(points, labels.long())
            return torch.cat([encoded, self.encoder.encode_boxes(boxes)], 1)
        if name == "dense_no_mask":
            return self.encoder.no_mask().flatten(1).expand(len(boxes), -1)
        raise Unknown(f"no computation for X/{name}")


def run_case(golden, case, autograd=True):
    """An object with ``entry(name)`` for a case; ``Unknown`` if there is no such case."""
    if case in REFERENCES:
        return Inference(golden, case, autograd)
    if case == "D":
        return Video(golden)
    if case in ("F", "X"):
        return (Losses if case == "F" else Prompts)(golden)
    raise Unknown(f"no computation for case {case}")
