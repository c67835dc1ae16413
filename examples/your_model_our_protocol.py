"""A model of your own in this package's predictor and evaluation: the mean colour under a mask."""

import numpy as np
import torch
from torch.nn import functional as F

from segic_d2 import Context, InContextPredictor, load_config
from segic_d2.engine import evaluate
from segic_d2.modeling import Features, InContextModel
from segic_d2.modeling.protocol import one_each
from segic_d2.structures.features import image_size, own_size
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from segic_d2.structures.view import InputSpec


class MeanColour(InContextModel):
    input = InputSpec(canvas=224, mean=(0.0,) * 3, std=(1.0,) * 3)
    fingerprint = {"model": "mean colour", **input.fingerprint}

    def encode_images(self, images):
        frames = [Frame(self.input.canvas, image_size(x), own_size(x)) for x in images]
        padded = [frame.pad(x["image"].float()) for frame, x in zip(frames, images, strict=True)]
        return Features(F.avg_pool2d(torch.stack(padded), 4), frames)  # (B, 3, 56, 56)

    def encode_context(self, references, names=None, task="semantic"):
        rows = [
            (i, m, x) for x in references for i, m in zip(x["entity_ids"], x["masks"], strict=True)
        ]
        colours = {int(i): (x["image"] * m).sum((1, 2)) / m.sum() for i, m, x in rows}
        tensors = {"colour": torch.stack([*colours.values()])[:, None]}  # (N, 1 shot, 3)
        shots, labels = torch.ones(len(colours), 1).bool(), [*map((names or {}).get, colours)]
        return Context("colour", shots, tensors, None, [*colours], labels, task, self.fingerprint)

    def segment(self, features, context, prompts=None):
        found, each = [], one_each(context, len(features))
        for cells, frame, own in zip(features.map, features.frames, each, strict=True):
            logits = 40 - (cells - own.tensors["colour"][:, 0, :, None, None]).norm(dim=1)
            found.append(Segmentation(logits, logits.amax((1, 2)), own.ids, own.names, frame))
        return found


if __name__ == "__main__":
    predictor, picture = InContextPredictor.from_model(MeanColour()), np.zeros((60, 90, 3), "uint8")
    picture[20:40, 30:60] = 255, 128, 0
    predictor.set_references([(picture, picture[:, :, 0] > 0, "orange")])
    print("orange:", predictor(picture[::-1]).masks.sum(), "of 600 px")
    cfg = load_config("segic_demo.yaml", ["INPUT.CANVAS", 224, "TEST.EPISODES", 100])
    print(f"mIoU {evaluate(cfg, MeanColour(), 'shapes_novel_coco')['one_shot']['mIoU']:.1f}")
