"""Small models of SegGPT's kind, and the reference files of the released code where at hand.

``SEGIC_GOLDEN_SEGGPT`` is the prefix of another set than the one beside the checkout.
"""

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from safetensors.torch import load_file

from segic_d2.config.load import load_config
from segic_d2.structures.picture import Picture

DEFAULT = Path(__file__).resolve().parents[4] / "shared/golden/seggpt_seed0"
SET = os.environ.get("SEGIC_GOLDEN_SEGGPT")
PREFIX = SET or str(DEFAULT)
HERE = all(Path(f"{PREFIX}{end}").is_file() for end in (".json", ".safetensors"))
SMALL = {"WIDTH": 32, "HEADS": 4, "DECODER": 8, "DROP_PATH": 0.0}
TINY = {
    **{"SIDE": 32, "PATCH": 8, "DEPTH": 5, "TAPS": (2, 3, 4), "MERGE": 1, "POSITIONS": 4},
    **SMALL,
}
WHY = "the released code's reference files are not at hand"


@cache
def golden():
    """{entry: tensor}, weights by released name, and what the JSON says of each entry."""
    about = json.loads(Path(f"{PREFIX}.json").read_text())["entries"]
    return load_file(f"{PREFIX}.safetensors"), load_file(f"{PREFIX}_weights.safetensors"), about


def golden_weights(real):
    """Of the small model, or of it at 896×448 px."""
    weights = golden()[1]
    known = {k: v for k, v in weights.items() if not k.startswith("real/")}
    own = {k.removeprefix("real/"): v for k, v in weights.items() if k.startswith("real/")}
    return known | own if real else known


def golden_model(side=64, real=False, **keys):
    """The model of the reference files on a canvas of ``side`` px; its tables are for 448 px where
    ``real``, else for 64."""
    model = small_model(side, SIDE=448 if real else 64, **SMALL, **keys)
    weights = golden_weights(real)
    if not keys.get("TYPE_TOKENS", True):
        weights = {k: v for k, v in weights.items() if not k.startswith("type_token")}
    model.net.load_state_dict(weights)
    return model


def small_config(side=64, **keys):
    """vit_large.yaml on a small canvas; ``keys`` of MODEL.SEGGPT."""
    opts = ["MODEL.DEVICE", "cpu", "INPUT.CANVAS", side]
    opts += [x for k, v in keys.items() for x in (f"MODEL.SEGGPT.{k.replace('__', '.')}", v)]
    return load_config("seggpt/vit_large.yaml", opts)


def small_model(side=64, **keys):
    return build_model(small_config(side, **keys)).eval()


def tiny_model(side=32, seed=0, **keys):
    """Random, of five blocks; of weights that are large enough to count."""
    torch.manual_seed(seed)
    model = small_model(side, **{**TINY, **keys})
    for name, tensor in model.net.named_parameters():
        if "rel_pos" in name or "token" in name:
            torch.nn.init.normal_(tensor, std=0.5)
        elif tensor.dim() == 2:
            torch.nn.init.normal_(tensor, std=0.2)
    return model


def lively(**keys):
    """A tiny model whose paint is not all dark or bright: some masks have pixels, none all."""
    model = tiny_model(**keys)
    model.net.decoder_pred[3].weight.data.mul_(4)
    return model


def reference(model, image, masks, ids=(1,)):
    """A reference of arrays, uint8 (H, W, 3) and bool (n, H, W)."""
    view = model.input.reference(Picture(image), masks)
    return {**view, "entity_ids": list(ids)}


def target(model, image):
    view = model.input.target(Picture(image))
    return {**view, "height": image.shape[0], "width": image.shape[1]}


def scene(seed, size=(40, 60), boxes=((8, 8, 24, 28),)):
    """A picture with noise and bright boxes (y0, x0, y1, x1), and a mask of each."""
    image = np.random.default_rng(seed).integers(0, 120, (*size, 3), np.uint8)
    masks = np.zeros((len(boxes), *size), bool)
    for mask, (y0, x0, y1, x1) in zip(masks, boxes, strict=True):
        image[y0:y1, x0:x1] += 100
        mask[y0:y1, x0:x1] = True
    return image, masks


def episode(model, seed=0, entities=1, task="semantic", absent=False):
    """A training episode: one reference per entity."""
    boxes = ((4, 4, 20, 24), (22, 30, 38, 56), (4, 40, 16, 56))[:entities]
    image, masks = scene(seed, boxes=boxes)
    x = target(model, image)
    own = reference(model, image, masks)["masks"] >= 0.5
    return {
        **x,
        "task": task,
        "seed": seed,
        "entities": [{"id": i + 1, "name": None} for i in range(entities)],
        "references": [
            reference(model, *scene(seed + 10 + i, boxes=boxes[i : i + 1]), [i + 1])
            for i in range(entities)
        ],
        "masks": own & (not absent),
    }
