"""Tune a context on a few labelled pictures: its tensors are learned, the model stays as it is.

Each picture is a target, for which what it is a reference of is left out, so that the others'
references learn to find it. In-context tuning (Wang et al., ICCV 2023, Sec. 3.3), for any model
that says how its context is learned.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn

from ..modeling.protocol import InContextModel
from ..structures.context import Context
from ..structures.episode import Episode, Names
from .tune import GAIN, Data, HeldOut, count_pictures, need_positive, part, read_both, train
from .tune_data import Labelled, TuneEpisodes

SHOTS = 8  # of an entity that are learned, at most, unless told


@dataclass(repr=False)
class ContextReport:
    """What tuning gained. mIoU, in %, is of the held-out pictures, by which ``kept`` was also
    chosen: new pictures may be a little worse.

    Attributes:
        before, after: mIoU with the references as they are, and with the tuned context. kept: which
            of them the context is, "before" or "after".
        shots: references of each entity, the most. learned, held_out: numbers of pictures. steps:
            of training. seconds: that all of it took.
    """

    before: float
    after: float
    kept: str
    shots: int
    learned: int
    held_out: int
    steps: int
    seconds: float

    def __repr__(self) -> str:
        better = "the tuned context is kept"
        kept = better if self.kept == "after" else "no better, so the references stay as they are"
        return (
            f"mIoU on {count_pictures(self.held_out, 'held-out ')}: before {self.before:.1f}, "
            f"after {self.after:.1f}; {kept}\n({self.steps} steps on "
            f"{count_pictures(self.learned)}, {self.shots} of a class in the context, "
            f"{self.seconds:.0f} s)"
        )


def tune_context(
    model: InContextModel,
    pictures: Sequence[Labelled],
    names: Names,
    test: Sequence[Labelled] = (),
    *,
    task: str = "semantic",
    steps: int = 60,
    batch: int = 4,
    rate: float = 0.1,
    seed: int = 0,
    shots: int = SHOTS,
) -> tuple[Context, ContextReport]:
    """Learn a context of {entity: name}, which starts from the references that labelled pictures
    are, ``shots`` of a class at most; nothing of the model is learned.

    Unless there are pictures to ``test`` on, a quarter is held out (``split``). Where the learned
    context is not better by half a point, the one of the references is returned. ``rate`` is of
    Adam, in units of each tensor's root mean square, after a tenth of the steps, and falls to 0.

    Raises:
        ValueError: a model that is not tuned by its context; fewer than 3 pictures of a class, or 2
            with ``test``; no picture to test on shows a class; a number out of its range, or a rate
            at which the losses become infinite.
    """
    need_positive(steps=steps, batch=batch, rate=rate)
    if shots < 2:
        raise ValueError(f"shots is {shots!r}; it must be 2 at least, for each is left out in turn")
    start, training = time.monotonic(), model.training
    learned, held = part(model, pictures, names, test, seed)
    model.eval()
    try:
        episodes = TuneEpisodes(model, learned, names, batch, seed, left_out=True)
        context, sources = _references(model, learned, names, task, shots)
        learner = _Learner(model, context, sources)
        trial = HeldOut(model, held, _each(context))
        before = trial.score()
        with _frozen(model):
            _train(learner.train(), episodes, steps, rate)
        tuned = learner.stored()
        trial.contexts = _each(tuned)
        after = trial.score()
    finally:
        model.train(training)
    settings = {"steps": steps, "batch": batch, "rate": rate, "seed": seed}
    tuned.about = {**context.about, "tuned": {**settings, "pictures": len(learned)}}
    better = after >= before + GAIN
    shots, spent = context.shots.shape[1], time.monotonic() - start
    counts = shots, len(learned), len(held), steps
    report = ContextReport(before, after, "after" if better else "before", *counts, spent)
    return tuned if better else context, report


def tune_context_on(
    model: InContextModel, data: Data, test: Data | None = None, **options: Any
) -> tuple[Context, ContextReport]:
    """``tune_context`` on what people give; arguments and errors as of ``tune.tune_on``."""
    return tune_context(model, *read_both(model, data, test), **options)


@torch.no_grad()
def _references(model, pictures, names, task, most=SHOTS):
    """The context of the first pictures of each entity, and for each entity which they are."""
    entities, sources = [], []
    for i, name in names.items():
        rows = [row for row, p in enumerate(pictures) if i in p.masks][:most]
        own = [pictures[row].reference(model.input, [i]) for row in rows]
        shots = [model.encode_context([one], {i: name}, task) for one in own]
        entities.append(Context.join_shots(shots))
        sources.append(rows)
    return Context.join_entities(entities), sources


def _each(context):
    return {i: context.take([row]) for row, i in enumerate(context.ids)}


@contextmanager
def _frozen(model):
    learned = [p for p in model.parameters() if p.requires_grad]
    for p in learned:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learned:
            p.requires_grad_(True)


class _Learner(nn.Module):
    """The float tensors of a context as parameters; the losses of episodes with them."""

    def __init__(
        self, model: InContextModel, context: Context, sources: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.first, self.sources = context.tensors, sources
        self.of_model = lambda: model  # which is no part of this one
        self.start = model.tunable(context)
        floats = {k: v for k, v in self.start.tensors.items() if v.is_floating_point()}
        self.tensors = nn.ParameterDict({k: nn.Parameter(v.clone()) for k, v in floats.items()})

    def context(self) -> Context:
        """With the tensors as they are now."""
        return replace(self.start, tensors={**self.start.tensors, **self.tensors})

    def forward(self, episodes: Sequence[Episode]) -> dict[str, Tensor]:
        context, total = self.context(), dict[str, Tensor]()
        for x in episodes:
            row = context.ids.index(x["entities"][0]["id"])
            kept = context.shots.clone()
            for shot, picture in enumerate(self.sources[row]):
                kept[row, shot] &= picture != x["image_id"]
            losses = self.of_model().context_losses([x], context.take([row], kept))
            for name, value in losses.items():
                total[name] = total.get(name, 0) + value / len(episodes)
        return total

    @torch.no_grad()
    def project(self) -> None:
        """Make of the tensors what they must be."""
        for name, value in self.of_model().tunable(self.context()).tensors.items():
            if name in self.tensors:
                self.tensors[name].copy_(value)

    def stored(self) -> Context:
        """The context, its tensors as precise as they were."""
        found, first = {}, self.first
        for name, value in self.context().tensors.items():
            same = name in first and first[name].is_floating_point()
            found[name] = value.detach().to(first[name].dtype if same else value.dtype)
        return replace(self.start, tensors=found)


class _Project(HookBase):
    def after_step(self):
        self.trainer.model.project()


def _train(learner, episodes, steps, rate):
    groups = [
        {"params": [x], "lr": rate * float(x.detach()[x != 0].square().mean().sqrt())}
        for x in learner.tensors.values()
        if x.any()
    ]
    try:
        train(learner, episodes, steps, torch.optim.Adam(groups), _Project())
    except FloatingPointError as error:
        raise ValueError(f"rate is {rate!r}, at which the losses become infinite") from error
