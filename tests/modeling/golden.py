"""Reference files of the released implementation: inputs, results and weights of one random model.

``SEGIC_GOLDEN`` is the prefix of another set than the one beside the checkout: PREFIX.json,
PREFIX.safetensors and PREFIX_weights.safetensors. Nothing here is a constant of one set.

Shape shorthand: C feature channels, S canvas side (px), g grid side (cells), n entities.
"""

import json
import os
from functools import cache, cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import timm
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from safetensors.torch import load_file

from segic_d2.checkpoint import SegICCheckpointer
from segic_d2.config.load import load_config
from segic_d2.modeling import save_text_table

DEFAULT = Path(__file__).resolve().parents[3] / "shared/golden/golden_seed0"
PREFIX = os.environ.get("SEGIC_GOLDEN") or str(DEFAULT)
TARGET = 0  # row of the feature bank that is every target
REFERENCES = {"A": (1,), "B": (2,), "C": (1,), "E": (1, 2, 3, 4, 5)}  # rows of the references
MEASURED = []  # (entry, largest difference, tolerance) of every comparison, for the summary


def missing_files():
    """The files of ``PREFIX`` that are not there."""
    names = (f"{PREFIX}{end}" for end in (".json", ".safetensors", "_weights.safetensors"))
    return [name for name in names if not Path(name).is_file()]


class BankBackbone(Backbone):
    """Returns row r of a feature bank for an image that is filled with the value r."""

    def __init__(self, bank, stride, mean, std):
        super().__init__()
        self.bank, self.pixel_mean, self.pixel_std = bank, mean, std
        self.seen = None  # the last input, float (B, 3, S, S)
        self._shape = ShapeSpec(channels=bank.shape[1], stride=stride)

    def forward(self, x):
        self.seen = x
        rows = (x[:, 0, 0, 0] * self.pixel_std[0] + self.pixel_mean[0]).round().long()
        return {"feat": self.bank[rows.clamp(0, len(self.bank) - 1)]}

    def output_shape(self):
        return {"feat": self._shape}


class Golden:
    """One set of reference files.

    Attributes:
        about: the JSON file.
        entries: names of the results to reproduce, in the order of the file.
    """

    def __init__(self, prefix=PREFIX):
        self.prefix = prefix
        self.about = json.loads(Path(f"{prefix}.json").read_text())
        self.entries = [e for e in self.about["entries"] if "in" not in e.split("/")]

    @cached_property
    def tensors(self):
        return load_file(f"{self.prefix}.safetensors")

    @property
    def bank(self):
        return self.tensors["in/feat_bank"]  # (rows, C, g, g)

    @property
    def canvas(self):
        masks = [v for k, v in self.tensors.items() if k.endswith(("in/ref_mask", "in/ref_masks"))]
        return masks[0].shape[-1]

    def prompts(self, case):
        """The texts of a case: one per entity, as the released code encoded them."""
        stats = self.about["stats"][case]
        if "reference_prompts" in stats:  # one text per reference
            return stats["reference_prompts"][0]
        return stats["encoder_prompts"][0][:1] * len(self.reference_masks(case))

    def reference_masks(self, case):
        """Float (n, S, S) in [0, 1], not binarised."""
        one = self.tensors.get(f"{case}/in/ref_mask")
        return (self.tensors[f"{case}/in/ref_masks"] if one is None else one) / 255

    def size(self, case, which):
        """Content (h, w) in pixels of a case's target or reference on the canvas."""
        size = self.tensors.get(f"{case}/in/{which}_ori_size")
        return (self.canvas, self.canvas) if size is None else tuple(size.tolist())

    def episode(self, case):
        """A case as an episode without ground truth, whose images the backbone knows by value."""
        model, rows = self.model(case), REFERENCES[case]
        masks, prompts = self.reference_masks(case), self.prompts(case)
        height, width = self.size(case, "ref")
        shares = masks.split(len(masks) // len(rows))  # one reference shows n, or n show one each
        ids = torch.arange(len(masks)).split(len(masks) // len(rows))
        template, _ = model.contexts.texts.semantic.split("{}")
        instance = prompts[0] == model.contexts.texts.instance
        names = [None if instance else p.removeprefix(template) or None for p in prompts]
        target = self.size(case, "target")
        return {
            "image": filled(TARGET, target),
            "height": target[0],
            "width": target[1],
            "task": "instance" if instance else "semantic",
            "entities": [{"id": i, "name": name} for i, name in enumerate(names)],
            "references": [
                {
                    "image": filled(r, (height, width)),
                    "masks": m[:, :height, :width],
                    "entity_ids": i,
                }
                for r, m, i in zip(rows, shares, ids, strict=True)
            ],
        }

    def model(self, case):
        """The official model with the file's weights, canvas, features and text vectors.

        The semantic path of the released code (case E) does not binarise its reference masks.
        """
        return _model(self, binarize=case != "E")


def filled(value, size):
    return torch.full((3, *size), value, dtype=torch.uint8)


@cache
def _model(golden, binarize):
    texts, vectors = golden.about["prompts"], golden.tensors["in/text_table"]
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        save_text_table(f"{folder}/texts.safetensors", texts, vectors)
        cfg = load_config(
            "official/segic_dinov2_L.yaml",
            [
                *("MODEL.DEVICE", "cpu", "MODEL.BACKBONE.WEIGHTS", "", "INPUT.CANVAS"),
                *(golden.canvas, "MODEL.SEGIC.BINARIZE_MASKS", binarize),
                *("MODEL.SEGIC.TEXT.NAME", "table", "MODEL.SEGIC.TEXT.DIM", vectors.shape[1]),
                *("MODEL.SEGIC.TEXT.TABLE", f"{folder}/texts.safetensors"),
            ],
        )
        pixels = timm.get_pretrained_cfg(cfg.MODEL.TIMM.NAME)
        mean, std = ([255.0 * v for v in x] for x in (pixels.mean, pixels.std))
        stride = golden.canvas // golden.bank.shape[-1]
        backbone = BankBackbone(golden.bank, stride, mean, std)
        patch.setattr("segic_d2.modeling.segic.meta_arch.build_backbone", lambda cfg: backbone)
        model = build_model(cfg).eval()
    SegICCheckpointer(model, complete=True).load(f"{golden.prefix}_weights.safetensors")
    return model
