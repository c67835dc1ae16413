"""Case D of the reference files: the released way through a video, by the video predictor.

The frames are stepped through once. What its memory gave the model in each is kept, and for what
happens inside of the head this is decoded once more, with autograd on (the plain path).

Shape shorthand: n objects, m shots, S canvas side (px).
"""

import re
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

from segic_d2.modeling.segic.queries import Queries
from segic_d2.predictor import InContextPredictor, VideoOptions, VideoPredictor
from segic_d2.structures.frame import Frame
from segic_d2.structures.memory import MemoryOptions
from tests.modeling.golden_inference import Unknown

RELEASED = VideoOptions(
    MemoryOptions("last", gate=0, trust=0, use=("tokens",)), absent=0, window=0, cross_points=True
)
FRAMES = 4


class Video:
    """Frames of one value each, which the backbone knows by it, in the size on the canvas."""

    def __init__(self, golden):
        self.model, self.golden = golden.model("A"), golden
        self.size = tuple(golden.tensors["D/in/ori_size"].tolist())
        self.own = tuple(golden.tensors["D/in/pre_resize_size"].tolist())
        height, width = self.size
        given = golden.tensors["D/in/inst_masks"] / 255
        self.given = (given > 0.5)[:, :height, :width]
        video = VideoPredictor(InContextPredictor.from_model(self.model), RELEASED)
        frames = [np.full((*self.size, 3), row, np.uint8) for row in range(FRAMES)]
        video.add(frames[0], self.given.numpy())
        self.contexts, self.found, self.written = [], [], []
        segment = type(self.model).segment_frame

        def spy(model, *args):
            self.found.append(segment(model, *args))
            return self.found[-1]

        with patch.object(type(self.model), "segment_frame", spy):
            for frame in frames:
                self.contexts.append(video.memory.read())
                video.step(frame)
                self.written.append([video.memory[i].recent for i in video.memory.ids])
        self.inside = [None] * FRAMES

    def entry(self, name):
        if name == "logits_resized":
            return torch.stack([self.resized(row) for row in range(FRAMES)])
        if name == "seg":
            return torch.stack([self.labels(row) for row in range(FRAMES)])
        frame = re.fullmatch(r"f(\d)/(\w+)", name)
        if not frame or frame[2] not in VIDEO:
            raise Unknown(f"no computation for D/{name}")
        return VIDEO[frame[2]](self, int(frame[1]))

    def logits(self, row):
        """Logits over the canvas; of the first frame the given masks."""
        if row:
            return self.found[row].logits
        return Frame(self.golden.canvas, self.size, self.size).pad(self.given.float())

    def resized(self, row):
        return Frame(self.golden.canvas, self.size, self.own).upsample(self.logits(row))

    def labels(self, row):
        found = replace(self.found[row], logits=self.logits(row), exclusive=True)
        found.frame = Frame(self.golden.canvas, self.size, self.own)
        return found.label_map()

    def features(self, row):
        return self.model.encode_images([torch.full((3, *self.size), float(row))])

    def similarities(self, row):
        """Similarity (n, m, S/4, S/4) to every shot."""
        vectors = self.contexts[row].tensors["unit_prototypes"]
        index = torch.zeros(len(vectors), dtype=torch.long)
        similarity = self.model.sem_seg_head.similarity
        return similarity.maps(self.features(row).map, vectors, index, [len(vectors)])

    def prototypes(self, row):
        """What was written of a frame, (n, C); of the first what was given."""
        if not row:
            return self.contexts[0].tensors["prototypes"][:, 0]
        return torch.cat([shots[0].tensors["prototypes"][0] for shots in self.written[row]])

    def decode(self, row):
        """What modules of the head received and returned in a frame."""
        if self.inside[row] is None:
            head, seen = self.model.sem_seg_head, {}
            wanted = "mask_decoder.transformer", "mask_decoder.iou_prediction_head"
            wanted += ("prompt_encoder.mask_downscaling",)
            handles = [
                head.get_submodule(name).register_forward_hook(
                    lambda module, args, output, name=name: seen.update({name: (args, output)})
                )
                for name in wanted
            ]
            encoder, features = head.prompt_encoder, self.features(row)
            queries = Queries.from_contexts([self.contexts[row]])
            with (
                torch.enable_grad(),
                patch.object(encoder, "encode_points", wraps=encoder.encode_points) as points,
            ):
                head(features.map, [self.size], queries, crossing=True, cross_points=True)
            for handle in handles:
                handle.remove()
            self.inside[row] = seen, *points.call_args.args
        return self.inside[row]

    def tokens(self, row):
        return self.decode(row)[0]["mask_decoder.transformer"][0][0]

    def sparse(self, row):
        learned = 1 + len(self.model.sem_seg_head.mask_decoder.mask_tokens.weight)
        return self.tokens(row)[:, learned:]

    def iou_all(self, row):
        return self.decode(row)[0]["mask_decoder.iou_prediction_head"][1]


VIDEO = {
    "inst_feat": lambda v, row: v.prototypes(row),
    "memory": lambda v, row: v.contexts[row].tensors["prototypes"],
    "sim_low": lambda v, row: v.similarities(row),
    "sim_full": lambda v, row: v.decode(row)[0]["prompt_encoder.mask_downscaling"][0][0],
    "points": lambda v, row: v.decode(row)[1],
    "point_labels": lambda v, row: v.decode(row)[2],
    "text_tokens": lambda v, row: v.sparse(row)[:, len(v.given) + 1 :],
    "sparse": lambda v, row: v.sparse(row),
    "tokens": lambda v, row: v.tokens(row),
    "iou_all": lambda v, row: v.iou_all(row),
    "iou": lambda v, row: v.iou_all(row)[:, :1],
    "low_res_masks": lambda v, row: v.found[row].logits,
    "masks_full": lambda v, row: Frame(v.golden.canvas, *[(v.golden.canvas,) * 2] * 2).upsample(
        v.found[row].logits
    ),
}
