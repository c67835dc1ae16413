"""A tiny random backbone and tiny episodes, so that tests run in seconds on a CPU."""

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import nn

from segic_d2.config.load import load_config
from segic_d2.structures.context import PROTOTYPES, Context

SEGIC = (  # what configs/Base-SegIC.yaml sets of Detectron2's keys
    *("MODEL.META_ARCHITECTURE", "SegIC", "MODEL.SEM_SEG_HEAD.NAME", "InContextMaskHead"),
    *("INPUT.FORMAT", "RGB", "SEED", 42, "SOLVER.OPTIMIZER", "ADAMW"),
)


class TinyBackbone(Backbone):
    """One patch convolution with a tanh: the stride and width of any backbone, at no cost."""

    pixel_mean, pixel_std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

    def __init__(self, channels=24, stride=14, feature="feat"):
        super().__init__()
        self.feature = feature
        self.patch = nn.Conv2d(3, channels, stride, stride=stride)
        self.tap = f"tiny-{channels}-{stride}"
        self._shape = ShapeSpec(channels=channels, stride=stride)

    def forward(self, x):
        return {self.feature: self.patch(x).mul(3).tanh()}

    def output_shape(self):
        return {self.feature: self._shape}


@BACKBONE_REGISTRY.register()
def build_tiny_backbone(cfg, input_shape):
    return TinyBackbone()


def tiny_config(*opts, canvas=112):
    """A config with the tiny backbone, no text and a small decoder on a canvas of 8×8 cells."""
    return load_config(
        opts=[
            *SEGIC,
            *("MODEL.BACKBONE.NAME", "build_tiny_backbone", "MODEL.DEVICE", "cpu"),
            *("INPUT.CANVAS", canvas, "MODEL.SEGIC.META", False),
            *("MODEL.SEGIC.DECODER.WIDTH", 32, "MODEL.SEGIC.DECODER.MLP", 64),
            *("MODEL.SEGIC.DECODER.HEADS", 4, "MODEL.SEGIC.LOSS.NUM_POINTS", 128),
            *("MODEL.SEGIC.REVERSION.PROB", 0.0, "MODEL.SEGIC.LOSS.QUALITY_WEIGHT", 0.0),
            *opts,
        ]
    )


def blob(height, width, generator):
    """A random soft-free rectangle mask, float (height, width)."""
    y, x = (int(torch.randint(0, n // 2, (1,), generator=generator)) for n in (height, width))
    mask = torch.zeros(height, width)
    mask[y : y + height // 3 + 1, x : x + width // 3 + 1] = 1
    return mask


def tiny_episode(seed, entities=2, shots=1, size=(84, 112), training=False, task="semantic"):
    """A random episode of the contract; every entity has ``shots`` reference images of its own."""
    g = torch.Generator().manual_seed(seed)

    def image(h, w):
        return torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8)

    references = [
        {
            "image": image(98, 70),
            "masks": blob(98, 70, g)[None],
            "entity_ids": torch.tensor([entity]),
            "file_name": f"reference{entity}_{shot}.png",
        }
        for entity in range(entities)
        for shot in range(shots)
    ]
    episode = {
        "image": image(*size),
        "height": size[0] * 2,
        "width": size[1] * 2,
        "file_name": f"target{seed}.png",
        "image_id": seed,
        "task": task,
        "seed": seed,
        "entities": [{"id": e, "name": f"class{e}"} for e in range(entities)],
        "references": references,
    }
    if training:
        episode["masks"] = torch.stack([blob(*size, g) for _ in range(entities)]) > 0.5
    return episode


def prototype_context(prototypes, units, shots, meta, ids, names, task="semantic", **more):
    """A context of SegIC's kind from its tensors."""
    tensors = {"prototypes": prototypes, "unit_prototypes": units}
    return Context(PROTOTYPES, shots, tensors, meta, ids, names, task, **more)
