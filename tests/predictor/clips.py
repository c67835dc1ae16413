"""Toy videos: textured shapes that move over a quiet ground, and a backbone that sees colours."""

from dataclasses import replace

import numpy as np
import torch
from detectron2.modeling import BACKBONE_REGISTRY
from torch.nn import functional as F

from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.structures.memory import MemoryOptions
from tests.tiny import TinyBackbone, tiny_config

SIZE = 112, 168  # H, W
SIDE = 42
COLOURS = {1: (230, 40, 40), 3: (40, 60, 235), 4: (240, 220, 30)}
FROM = {1: (14, 14), 3: (56, 112), 4: (60, 20)}  # y, x of the upper left corner at first
STEP = {1: (0, 3), 3: (0, -3), 4: (0, 2)}  # px of a frame


def texture(colour, seed):
    noise = np.random.default_rng(seed).integers(-12, 13, (SIDE // 7, SIDE // 7, 3))
    return np.clip(np.array(colour) + noise.repeat(7, 0).repeat(7, 1), 0, 255).astype(np.uint8)


def shape(y, x, size=SIZE):
    """A disk in a square of ``SIDE``, bool (H, W)."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    radius = SIDE / 2
    return (rows - y - radius) ** 2 + (columns - x - radius) ** 2 <= radius**2


def labels(number, ids=(1, 3), size=SIZE):
    """The label map of a frame, uint8 (H, W)."""
    found = np.zeros(size, np.uint8)
    for i in ids:
        (y, x), (down, right) = FROM[i], STEP[i]
        found[shape(y + number * down, x + number * right, size)] = i
    return found


def frame(number, ids=(1, 3), size=SIZE, ground=120):
    """The frame, uint8 (H, W, 3), with the objects of these ids."""
    noise = np.random.default_rng(7).integers(-4, 5, (*size, 3))
    picture = np.clip(ground + noise, 0, 255).astype(np.uint8)
    shown = labels(number, ids, size)
    for i in ids:
        tile = np.tile(texture(COLOURS[i], i), (8, 8, 1))[: size[0], : size[1]]
        picture[shown == i] = tile[shown == i]
    return picture


def alike(number, shown=(1, 3), down=0):
    """A frame with two objects that look the same, 1 from left to right, before 3 from right to
    left, whose path is ``down`` px lower; and its label map."""
    picture, found = frame(0, ()), np.zeros(SIZE, np.uint8)
    tile = np.tile(texture(COLOURS[1], 1), (8, 8, 1))[: SIZE[0], : SIZE[1]]
    for i, (y, x) in ((3, (30 + down, 120 - 4 * number)), (1, (30, 6 + 4 * number))):
        if i in shown:
            picture[shape(y, x)] = tile[shape(y, x)]
            found[shape(y, x)] = i
    return picture, found


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


class ColourBackbone(TinyBackbone):
    """Features of a patch: how near its mean colour is to each of some colours. ``calls`` counts
    the images that it saw."""

    def __init__(self, channels=24, stride=8):
        super().__init__(channels, stride)
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("anchors", torch.rand(channels, 3, generator=generator) * 4 - 2)
        self.stride, self.calls = stride, 0

    def forward(self, x):
        self.calls += len(x)
        mean = F.avg_pool2d(x, self.stride)  # of normalised pixels
        distance = (mean[:, None] - self.anchors[:, :, None, None]).square().sum(2)
        return {self.feature: (-distance).softmax(1)}


@BACKBONE_REGISTRY.register()
def build_colour_backbone(cfg, input_shape):
    return ColourBackbone()


def colour_predictor(*opts, canvas=168):
    """A predictor that needs no training: regions of like colours."""
    torch.manual_seed(0)
    own = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead"
    own += "MODEL.BACKBONE.NAME", "build_colour_backbone"
    view = "INPUT.REFERENCE_WHOLE", True, "INPUT.REFERENCE_ZOOM", 0.7
    regions = "MODEL.SEGIC.REGIONS.WHITENING", "", "MODEL.SEGIC.INSTANCES.PARTS", True
    cfg = tiny_config(*own, *view, *regions, *opts, canvas=canvas)
    return InContextPredictor(cfg, device="cpu")


def video(predictor, kind="first", *, memory=None, **options):
    kept = MemoryOptions(kind, **{"every": 2, **(memory or {})})
    return VideoPredictor(predictor, replace(predictor.video, memory=kept, **options))


def followed(predictor, numbers=range(8), *, ids=(1, 3), **options):
    """A video whose objects were given in frame 0, and the results of some frames."""
    made = video(predictor, **options)
    made.add(frame(0, ids), labels(0, ids))
    return made, [made.step(frame(n, ids)) for n in numbers]
