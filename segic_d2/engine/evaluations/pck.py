"""PCK of a frozen backbone's features on pairs with key points (SPair-71k)."""

from collections import OrderedDict

from torch import nn

from ...data.build import build_pair_loader
from ...evaluation import PCKEvaluator
from ...evaluation.few_shot import write_results
from ...modeling.layers.matching import nearest_points
from ..hooks.feature_cache import open_feature_cache
from ..loop.inference import run_inference
from .base import EVALUATION_REGISTRY


class PairMatcher(nn.Module):
    """Finds the source's key points in the target with a model's backbone."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batched_inputs):
        """Items of ``PairMapper`` → a dict ``keypoints`` float64 (k, 2) per pair, on the CPU."""
        images = [x[side] for x in batched_inputs for side in ("source", "target")]
        features, found = self.model.encode_images(images), []
        for i, x in enumerate(batched_inputs):
            (source, target), sizes = features.map[2 * i : 2 * i + 2], features.image_sizes[2 * i :]
            points = nearest_points(
                source,
                target,
                x["source_keypoints"].to(source.device),
                sizes[:2],
                [(x[side]["height"], x[side]["width"]) for side in ("source", "target")],
                self.model.canvas,
            )
            found.append({"keypoints": points.cpu()})
        return found


@EVALUATION_REGISTRY.register()
def pck(cfg, model, dataset_name, output_dir):
    """Match key points by nearest neighbours of frozen features, and measure PCK.

    ``MODEL.SEGIC.IN_FEATURE`` names the features; nothing trained takes part. An image is in many
    pairs: with ``MODEL.SEGIC.FEATURE_MEMORY`` or ``INPUT.FEATURE_CACHE`` it is encoded once.
    """
    model = getattr(model, "module", model)  # out of DDP
    loader = build_pair_loader(cfg, dataset_name, open_feature_cache(cfg, model))
    found = run_inference(cfg, PairMatcher(model), loader, PCKEvaluator(), output_dir)
    if not found:
        return {}
    metrics = found["pck"]
    content = {
        "benchmark": "pck",
        "dataset": dataset_name,
        "pairs": metrics["pairs"],
        "standard": True,
        "backbone": model.fingerprint["backbone"],
        "metrics": metrics,
        "skipped": [],
    }
    write_results(output_dir, content)
    return OrderedDict({f"pck-{dataset_name}": metrics})
