"""Tune a model's decoder on a few labelled pictures, minutes on a CPU; the better weights stay."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase, SimpleTrainer, hooks
from detectron2.solver import LRMultiplier, WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from ..checkpoint import trainable_state_dict
from ..data.datasets import register_by_name
from ..evaluation import OneShotEvaluator
from ..modeling.protocol import InContextModel
from ..structures.context import Context
from ..structures.episode import Episode, Names, Reference
from ..structures.picture import Picture
from ..utils.files import AnyPath
from .tune_data import (
    LARGEST,
    MOST,
    Labelled,
    TuneEpisodes,
    has_frozen_backbone,
    read_labelled,
    some,
    split,
)

# names of data sets or folders; or references of any size with the names of their entities
Data: TypeAlias = AnyPath | Sequence[AnyPath] | tuple[list[Reference], Names]

SHARES = 0.2, 0.5, 1.0  # MODEL.SEGIC.REGIONS.DECODER that are tried
SHOTS = 3  # references of a held-out picture
GAIN = 0.5  # mIoU, below which nothing is better: so few pictures say no more
WARMUP, DECAY = 0.1, 1e-4  # of the steps; of weights

logger = logging.getLogger(__name__)


@dataclass(repr=False)
class TuneReport:
    """What tuning gained. mIoU, in %, is of the held-out pictures, by which ``after`` was also
    chosen: new pictures may be a little worse.

    Attributes:
        before, after: mIoU of the model as it was, and of the tuned one. kept: which of them the
            model is now, "before" or "after".
        share: of the decoder, ``MODEL.SEGIC.REGIONS.DECODER``, now; None: the decoder is alone.
        learned, held_out: numbers of pictures. steps: of training. seconds: that all of it took.
    """

    before: float
    after: float
    kept: str
    share: float | None
    learned: int
    held_out: int
    steps: int
    seconds: float

    def __repr__(self) -> str:
        share = "" if self.share is None else f", decoder's share {self.share:g}"
        own = self.kept == "after" and self.share is not None
        scores = "; its scores are not calibrated: only min_score leaves things out" if own else ""
        kept = (
            "the tuned decoder is kept" if self.kept == "after" else "no better, so kept as it was"
        )
        held, learned = count_pictures(self.held_out, "held-out "), count_pictures(self.learned)
        return (
            f"mIoU on {held}: before {self.before:.1f}, after "
            f"{self.after:.1f}; {kept}{share}\n({self.steps} steps on {learned}, "
            f"{self.seconds:.0f} s{scores})"
        )


def count_pictures(number: int, kind: str = "") -> str:
    """So many pictures, in words."""
    return f"{number} {kind}picture{'s' * (number != 1)}"


def fine_tune(
    model: InContextModel,
    pictures: Sequence[Labelled],
    names: Names,
    test: Sequence[Labelled] = (),
    *,
    steps: int = 100,
    batch: int = 4,
    rate: float = 5e-4,
    seed: int = 0,
) -> TuneReport:
    """Tune what is trainable of a model on labelled pictures of {entity: name}. Its backbone is
    frozen, so that each picture, and up to two changed copies of it, is encoded once.

    Unless there are pictures to ``test`` on, a quarter is held out (``split``). Of a head that
    chooses regions, the decoder's share is chosen among ``SHARES`` on what is held out. Where
    nothing is better than before by half a point, the model is as it was. ``rate`` is of AdamW,
    after a tenth of the steps, and falls to 0. Contexts stay valid: they are of frozen features.

    Raises:
        ValueError: a model without a frozen backbone; fewer than 3 pictures of a class, or 2 with
            ``test``; no picture to test on shows a class of ``names``; a number out of its range.
    """
    if not has_frozen_backbone(model):
        raise ValueError(f"{type(model).__name__} has no frozen backbone: it is not tuned here")
    need_positive(steps=steps, batch=batch, rate=rate)
    start, training = time.monotonic(), model.training
    learned, held = part(model, pictures, names, test, seed)
    model.eval()
    episodes = TuneEpisodes(model, learned, names, batch, seed)
    contexts = {}
    for i in names:
        own = [p.reference(model.input, [i]) for p in learned if i in p.masks][:SHOTS]
        contexts[i] = model.encode_context(own, {i: names[i]})
    trial = HeldOut(model, held, contexts)
    before, weights = trial.score(), _copied(model)
    head: Any = getattr(model, "sem_seg_head", None)
    tunable = getattr(head, "matcher", None) is not None
    own = head.share if tunable else None
    try:
        params = get_default_optimizer_params(model, weight_decay=DECAY, weight_decay_norm=DECAY)
        train(model.train(), episodes, steps, AdamW(params, lr=rate))
        model.eval()
        scores = {}
        for share in (own, *(x for x in SHARES if x != own)) if tunable else (None,):
            if tunable:
                head.set_share(share)
            scores[share] = trial.score()
            logger.info("share %s: mIoU %.1f", share, scores[share])
    except BaseException:  # also of an impatient user: the model is as it was
        _restore(model.train(training), weights)
        raise
    best = max(scores, key=scores.__getitem__)
    better = scores[best] >= before + GAIN
    if better and tunable:
        head.set_share(best)
    if not better:
        _restore(model, weights)
    model.train(training)
    spent = time.monotonic() - start
    kept, share = ("after", best) if better else ("before", own)
    return TuneReport(before, scores[best], kept, share, len(learned), len(held), steps, spent)


def need_positive(**values: float) -> None:
    """ValueError: a number, which is named, is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} is {value!r}; it must be above 0")


def part(
    model: InContextModel,
    pictures: Sequence[Labelled],
    names: Names,
    test: Sequence[Labelled],
    seed: int,
) -> tuple[list[Labelled], list[Labelled]]:
    """Pictures to learn from and held-out ones, ``test`` or of ``split``, neither too large nor too
    many for a model."""
    side = LARGEST * model.input.canvas
    pictures, test = ([p.smaller(side) for p in some] for some in (pictures, test))
    learned, held = (pictures, test) if test else split(pictures, names, seed)
    return some(learned, MOST, seed), some(held, MOST, seed)


def tune_on(
    model: InContextModel, data: Data, test: Data | None = None, **options: Any
) -> TuneReport:
    """``fine_tune`` on what people give, see ``read_both``."""
    return fine_tune(model, *read_both(model, data, test), **options)


def read_both(
    model: InContextModel, data: Data, test: Data | None
) -> tuple[list[Labelled], Names, list[Labelled]]:
    """Pictures to learn from, the names of their entities, and pictures to test on, of what people
    give; entities of both are the same by their names, without names by their ids.
    FileNotFoundError, ValueError: what cannot be read, named, or ``test`` shows nothing of what is
    learned."""
    side = LARGEST * model.input.canvas
    pictures, names = _labelled(data, side)
    shown, others = _labelled(test, side) if test is not None else ([], {})
    known = {name or i: i for i, name in names.items()}
    for one in shown:
        keys = {others[i] or i: mask for i, mask in one.masks.items()}
        one.masks = {known[key]: mask for key, mask in keys.items() if key in known}
    kept = [one for one in shown if one.masks]
    files = {os.path.realpath(p.file_name) for p in pictures if p.file_name}
    if again := sum(p.file_name != "" and os.path.realpath(p.file_name) in files for p in kept):
        logger.warning("%d of %d pictures to test on are also learned from", again, len(kept))
    if test is not None and not kept:
        raise ValueError(f"the pictures to test on show none of {', '.join(map(str, known))}")
    return pictures, names, kept


def _labelled(data, side):
    if isinstance(data, tuple):
        references, names = data
        return [Labelled.of(x).smaller(side) for x in references], names
    places = [data] if isinstance(data, str | os.PathLike) else data
    datasets = [f"folder:{x}" if os.path.isdir(x) else str(x) for x in places]
    for name in datasets:
        register_by_name(name)
        if name not in DatasetCatalog:
            raise ValueError(f"{name!r} is neither a folder nor a registered dataset")
    return read_labelled(datasets, side)


def _copied(model):
    return {k: v.clone() for k, v in trainable_state_dict(model).items()}


def _restore(model, weights):
    model.load_state_dict(weights, strict=False)


class _Bar(HookBase):
    def before_train(self):
        self.bar = tqdm(desc="tuning", total=self.trainer.max_iter, unit="step", disable=None)

    def after_step(self):
        self.bar.update()

    def after_train(self):
        self.bar.close()


def train(
    model: nn.Module,
    episodes: Iterable[Sequence[Episode]],
    steps: int,
    optimizer: Optimizer,
    *more: HookBase,
) -> None:
    """Train a model, which is in training mode, on batches of episodes; the rates of the optimizer
    are reached after a tenth of the steps and fall to 0. ``more``: hooks."""
    cosine = CosineParamScheduler(1, 0)
    multiplier = WarmupParamScheduler(cosine, 0.01, WARMUP, "linear")
    trainer = SimpleTrainer(model, episodes, optimizer)
    scheduler = LRMultiplier(optimizer, multiplier, steps)
    trainer.register_hooks([hooks.LRScheduler(optimizer, scheduler), *more, _Bar()])
    trainer.train(0, steps)


class HeldOut:
    """The mIoU of a model, or of ``contexts``, one of each entity, on held-out pictures, which are
    encoded once."""

    @torch.no_grad()
    def __init__(
        self, model: InContextModel, held: Sequence[Labelled], contexts: dict[int, Context]
    ) -> None:
        self.model, self.contexts, self.held = model, contexts, []
        for picture in held:
            height, width = picture.image.shape[:2]
            view: Any = {
                **model.input.target(Picture(picture.image)),
                "height": height,
                "width": width,
            }
            self.held.append((picture, model.encode_images([view])))

    @torch.no_grad()
    def score(self) -> float:
        """In %, now."""
        evaluator = OneShotEvaluator("held-out", classes={i: str(i) for i in self.contexts})
        for picture, features in self.held:
            for i, mask in picture.masks.items():
                (found,) = self.model.segment(features, self.contexts[i])
                x: dict[str, Any] = {"episode": (id(picture), i), "entities": [{"id": i}]}
                x["gt_masks"] = torch.from_numpy(mask.copy())[None]
                if picture.ignore is not None:
                    x["gt_ignore"] = torch.from_numpy(picture.ignore)
                evaluator.process([x], [{"masks": torch.as_tensor(found.masks)}])
        return float(evaluator.evaluate()["one_shot"]["mIoU"])
