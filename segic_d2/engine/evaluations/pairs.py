"""The protocol "real pairs" on a model. Every picture is encoded once."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from detectron2.config import CfgNode

from ...data.augmentation.degrade import MASKS, PICTURES
from ...data.benchmarks.base import EpisodeList
from ...data.benchmarks.pairs import Change, PairFolder, PairMapper
from ...data.build import build_grouped_loader
from ...evaluation.pairs import PairEvaluator, auroc
from ...modeling.layers.feature_memory import FeatureMemory
from ...modeling.protocol import InContextModel
from ...structures.context import Context
from ...structures.episode import Episode, Reference
from ...structures.segmentation import Segmentation
from ..loop.inference import run_inference
from .reference_memory import RememberedReferences

AT_ONCE = 8  # episodes of a target that are decoded in one pass
MEGABYTES = 4096  # of features that are remembered


class PairModel(RememberedReferences):
    """Segments test episodes; equal pictures are encoded once, whatever they are for. ``seconds``
    has, for "encode" and "decode", CPU seconds of this process and the number of pictures."""

    def __init__(self, model: InContextModel) -> None:
        super().__init__(model)
        self.memory = FeatureMemory(MEGABYTES)
        self.seconds: dict[str, tuple[float, int]] = {}

    @torch.no_grad()
    def forward(self, batched_inputs: Sequence[Episode]) -> list[Segmentation]:
        contexts = [self._context(x) for x in batched_inputs]
        features = self.model.encode_images([self._encoded(x) for x in batched_inputs])
        return self._timed("decode", self.model.segment, features, contexts)

    def _shot(self, reference: Reference, names: Mapping[int, str | None]) -> Context:
        known = reference["key"] in self._known
        return super()._shot(reference if known else self._encoded(reference), names)

    def _encoded(self, view: Any) -> Any:
        """A view that brings its features along."""
        key = self.memory.key(view["image"])
        found = self.memory.get(key)
        if found is None:
            found = self._timed("encode", self.model.encode_images, [view]).map[0]
            self.memory.put(key, found)
        told = {**view, "features": found, "image_size": tuple(view["image"].shape[-2:])}
        if "whole" in view:
            told["whole"] = self._encoded(view["whole"])
        return told

    def _timed(self, name: str, call: Callable[..., Any], pictures: Any, *args: Any) -> Any:
        start, (spent, number) = time.process_time(), self.seconds.get(name, (0.0, 0))
        result = call(pictures, *args)
        self.seconds[name] = spent + time.process_time() - start, number + len(pictures)
        return result


class PairEvaluation:
    """All measurements of one model on one folder of class folders. To measure what abstaining
    costs, the model must not abstain itself: it would below ``min_score``. For ``shots`` and
    ``seed``, which is also that of ``absent``, see ``PairFolder.episodes``."""

    def __init__(
        self,
        cfg: CfgNode,
        model: InContextModel,
        folder: PairFolder,
        shots: int = 1,
        seed: int = 0,
        min_score: float = 0.0,
    ) -> None:
        self.cfg, self.folder, self.seed = cfg.clone(), folder, seed
        self.cfg.defrost()
        self.cfg.DATALOADER.NUM_WORKERS = 0  # the mapper remembers its views
        self.cfg.TEST.MASK_SIZE, self.cfg.TEST.BATCH_SIZE = "original", 1  # group
        self.episodes = folder.episodes(shots, seed)
        self.model, self.min_score = PairModel(model), min_score
        self.known: dict[Any, dict[str, Any]] = {}  # views
        self.edges: dict[Any, torch.Tensor] = {}

    def run(
        self,
        mask: Change | None = None,
        picture: Change | None = None,
        episodes: EpisodeList | None = None,
        straight: Mapping[int, torch.Tensor] | None = None,
    ) -> PairEvaluator:
        """Segment episodes, all of them by default; see ``PairMapper`` and ``PairEvaluator``."""
        mapper = PairMapper(self.cfg, self.folder, self.known, mask, picture)
        loader = build_grouped_loader(self.cfg, episodes or self.episodes, mapper, AT_ONCE)
        evaluator = PairEvaluator(self.min_score, straight, self.edges)
        run_inference(self.cfg, self.model, loader, evaluator, None)
        return evaluator

    @cached_property
    def plain(self) -> PairEvaluator:
        """The episodes as they are."""
        return self.run()

    def robustness(self, threshold: float) -> dict[str, Any]:
        """Measure worse masks and pictures: {variant: {"model", "propagated mask": result}}, the
        latter with one fixed threshold."""
        rows: dict[str, Any] = {}
        for name, change in (*MASKS.items(), *PICTURES.items()):
            found = self.run(change) if name in MASKS else self.run(picture=change)
            rows[name] = {"model": found.evaluate(), "propagated mask": found.cut(threshold)}
        return rows

    def flipped(self) -> dict[str, Any]:
        """The result where each target is also segmented mirrored, and both logit maps are
        averaged."""
        mirrored = self.run(picture=lambda x: x[:, ::-1].copy(), straight=self.plain.logits)
        return mirrored.model.result()

    def abstention(self) -> dict[str, Any]:
        """{"AUROC", "present", "absent"}: the score's AUROC, and the numbers of targets.
        ValueError: every picture shows every class, so nothing is ever absent."""
        absent = self.run(episodes=self.folder.absent(self.episodes, self.seed)).scores
        present = self.plain.scores
        counts = {"present": len(present), "absent": len(absent)}
        return {"AUROC": auroc(present, absent), **counts}
