"""PCK of a frozen backbone's features on pairs with key points (SPair-71k)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from ...data.build import build_pair_loader
from ...evaluation import PCKEvaluator
from ...modeling.layers.matching import nearest_points
from ...modeling.protocol import InContextModel
from .base import Evaluation, Results


class PairMatcher(nn.Module):
    """Finds the source's key points in the target with a model's backbone. ValueError: a model that
    has none, whose features are pixels."""

    def __init__(self, model: InContextModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, torch.Tensor]]:
        """Items of ``PairMapper`` → a dict ``keypoints`` float64 (k, 2) per pair, on the CPU."""
        images = [x[side] for x in batched_inputs for side in ("source", "target")]
        features, found, canvas = self.model.encode_images(images), [], self.model.input.canvas
        if features.map.shape[-1] >= canvas:
            name = type(self.model).__name__
            raise ValueError(
                f"'pck' is for features, and those of {name} are the pixels themselves"
            )
        for i, x in enumerate(batched_inputs):
            (source, target), f = features.map[2 * i : 2 * i + 2], features.frames[2 * i :]
            asked = x["source_keypoints"].to(source.device)
            contents, sizes = (f[0].content, f[1].content), (f[0].size, f[1].size)
            points = nearest_points(source, target, asked, contents, sizes, canvas)
            found.append({"keypoints": points.cpu()})
        return found


class PCK(Evaluation, name="pck"):
    """PCK by nearest neighbours of the features of ``MODEL.SEGIC.IN_FEATURE``. With
    ``MODEL.SEGIC.FEATURE_MEMORY`` or ``INPUT.FEATURE_CACHE`` an image of many pairs is encoded
    once."""

    def build_loader(self) -> DataLoader[Any]:
        return build_pair_loader(self.cfg, self.dataset_name, self.cache)

    def build_evaluator(self) -> PCKEvaluator:
        return PCKEvaluator()

    def build_model(self) -> PairMatcher:
        return PairMatcher(self.model)

    def report(self, found: Results) -> tuple[Results, dict[str, Any]]:
        metrics = found["pck"]
        return {f"pck-{self.dataset_name}": metrics}, {
            "shots": 1,
            "text": "no_text",
            "pairs": metrics["pairs"],
            "standard": True,
            "backbone": self.model.fingerprint.get("backbone", type(self.model).__name__),
            "metrics": metrics,
        }
