"""Trains and measures a learned choice among regions on collected evidence."""

import math
import time

import numpy as np
import torch
from torch.nn import functional as F

from segic_d2.evaluation.pairs import PooledIoU, overlap
from segic_d2.modeling.segic.refinement import Refinement
from segic_d2.modeling.segic.regions.canvas import on_canvas
from segic_d2.modeling.segic.regions.evidence import CELL, TOKEN, Evidence, region_tokens
from segic_d2.modeling.segic.regions.linkage import region_means
from segic_d2.modeling.segic.regions.learned import LearnedChoice


def unpacked(example):
    """The ``Evidence`` of an example, of one entity."""
    x = example
    return Evidence(
        x["cells"].float()[None],
        x["references"][None],
        x["labels"].long(),
        x["alike"].float(),
        x["compact"],
        x["size"],
        x["small"][None],
        x["base"].float()[None],
    )


def prepared(example):
    """What training needs of an example: tokens and cells."""
    x = unpacked(example)
    share = example["share"].float()
    means, count = region_means(torch.stack([x.base[0], share]), x.labels[1])
    found = {"tokens": region_tokens(x)[0], "alike": x.alike, "count": count}
    found |= {"level": means[0], "held": means[1]}  # of the regions
    return found | {"cells": x.cells[0], "fine": x.labels[1], "base": x.base[0], "share": share}


def stacked(examples):
    """All examples as tensors, padded: regions that "exist" (B, R), cells that are "inside"."""
    most = max(len(x["tokens"]) for x in examples)
    cells = max(len(x["base"]) for x in examples)
    sides = {"tokens": 1, "alike": 2, "count": 1, "level": 1, "held": 1}
    found = {}
    for name, axes in sides.items():
        found[name] = torch.zeros(
            len(examples), *[most] * axes, *([TOKEN] if name == "tokens" else [])
        )
        for row, x in enumerate(examples):
            n = len(x["tokens"])
            found[name][row][(slice(n),) * axes] = x[name]
    for name, dtype in (
        ("cells", torch.float16),
        ("fine", torch.int64),
        ("base", torch.float32),
        ("share", torch.float32),
    ):
        more = [len(CELL)] if name == "cells" else []
        found[name] = torch.zeros(len(examples), cells, *more, dtype=dtype)
        for row, x in enumerate(examples):
            found[name][row][: len(x["base"])] = x[name]
    counts = torch.tensor([[len(x["tokens"]), len(x["base"])] for x in examples])
    found["exists"] = torch.arange(most) < counts[:, :1]
    found["inside"] = (torch.arange(cells) < counts[:, 1:]).float()
    return found


def batched(data, rows, by_cells=True):
    """Some rows of ``stacked``; without cells, regions alone."""
    names = ["tokens", "alike", "exists", "count", "level", "held"]
    names += ["cells", "fine", "base", "share", "inside"] if by_cells else []
    found = {
        name: data[name][rows].float() if name == "cells" else data[name][rows] for name in names
    }
    most = int(found["exists"].sum(1).max())
    found |= {name: found[name][:, :most] for name in names[:6]}
    return found | {"alike": found["alike"][:, :, :most]}


def added(learned, batch):
    """What is added to the logits of the cells, or without them of the regions."""
    own = (batch["cells"], batch["fine"]) if "cells" in batch else (None, None)
    return learned.added(*(batch[k] for k in ("tokens", "alike", "exists")), *own)


class Measured:
    """Examples of a validation set with their targets and truths, to measure a network on."""

    def __init__(self, path, limit=None):
        held = torch.load(path, weights_only=False)
        self.examples, self.targets, self.truths = (
            held[k] for k in ("examples", "targets", "truths")
        )
        self.data = stacked([prepared(x) for x in self.examples])
        self.edges, self.small = {}, {}
        for (file, label), truth in self.truths.items():
            frame = self.targets[file][0]
            self.grid = frame.canvas // 14
            size = [x // 14 * 4 for x in frame.content]  # positions
            small = F.interpolate(truth[None, None].float(), size, mode="area")[0, 0]
            self.small[file, label] = small > 0.5
        self.refinement = Refinement(4, 0.0)

    @torch.no_grad()
    def logits(self, learned):
        """Logits of cells of each example."""
        found = self.data["base"].clone()
        for rows in torch.arange(len(found)).split(32):
            if learned is not None:
                found[rows] += added(learned, batched(self.data, rows))
        return [own[inside > 0] for own, inside in zip(found, self.data["inside"], strict=True)]

    def screen(self, learned):
        """mIoU at four positions a cell and side, edges not refined: fast."""
        sums = {}
        for row, logits in enumerate(self.logits(learned)):
            example = self.examples[row]
            grid, truth = self.grid, self.small[example["target"]]
            mask = on_canvas(logits[None].unflatten(1, example["size"]), grid)[0] > 0
            mask = mask[: truth.shape[0], : truth.shape[1]]
            own = sums.setdefault(example["kind"], np.zeros(2))
            own += np.array([int((mask & truth).sum()), int((mask | truth).sum())])
        self.by_kind = {kind: 100 * a / b for kind, (a, b) in sums.items()}
        return float(np.mean(list(self.by_kind.values())))

    def measure(self, learned):
        """``PooledIoU.result``, as tools/evaluate_pairs.py has it."""
        from segic_d2.evaluation.pairs import boundary
        from segic_d2.structures.features import Features

        pooled = PooledIoU()
        for example, logits in zip(self.examples, self.logits(learned), strict=True):
            file, label = example["target"]
            frame, picture = self.targets[file]
            grid = frame.canvas // 14
            fine = on_canvas(logits[None].unflatten(1, example["size"]), grid)
            features = Features(torch.zeros(1, 1, 1, 1), [frame], [picture])
            fine = self.refinement(fine, features, 0, None, 0.0)
            truth = self.truths[file, label]
            key = file, label
            if key not in self.edges:
                self.edges[key] = boundary(truth)
            mask = frame.upsample(fine)[0] > 0
            pooled.add((label, example["kind"]), overlap(mask, truth, self.edges[key]))
        return pooled.result()


def losses(logits, share, count, bins=4):
    """Losses of parts (cells, or regions of ``count`` cells) whose ``share`` is the object, all
    (B, parts): of the masks, pooled over the batch's examples of like size, and of the choice.

    Dice of one episode is forgiving to an extra person: its loss cannot exceed 1. Pooled, what is
    wrongly taken counts in full against the objects of all the episodes."""
    chance, area, dice = logits.sigmoid(), (share * count).sum(1), []
    for rows in area.argsort().chunk(bins):
        p, t = (chance * count)[rows], (share * count)[rows]
        size = t.sum(1).clamp(min=4)[:, None]  # every episode weighs alike within its bin
        dice.append(
            1 - 2 * (chance[rows] * t / size).sum() / ((p + t) / size).sum().clamp(min=1e-6)
        )
    weight = count / (area + 0.02 * count.sum(1))[:, None]  # errors in units of the thing
    choice = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
    return {
        "dice": torch.stack(dice).mean(),
        "choice": (choice * weight).sum(1).clamp(max=8).mean(),
    }


def standardised(learned, examples):
    """Give a network the mean and deviation of the tokens of some examples."""
    tokens = examples["tokens"][examples["exists"]]
    learned.mean.copy_(tokens.mean(0))
    learned.scale.copy_(tokens.std(0).clamp(min=1e-3))


def train(data, options, validate=None, log=print):
    """A ``LearnedChoice`` trained on stacked examples; the average of its weights."""
    o = options
    torch.manual_seed(o.seed)
    rng = np.random.default_rng(o.seed)
    learned = LearnedChoice(o.width, o.depth, 4, o.by_cells)
    standardised(learned, data)
    if o.without:
        learned.scale[o.without] = 1e6
    optimizer = torch.optim.AdamW(learned.parameters(), o.rate, weight_decay=o.decay)
    average = {k: v.clone() for k, v in learned.state_dict().items()}
    curve, start = [], time.monotonic()
    order = []
    for step in range(o.steps):
        if len(order) < o.batch:
            order = rng.permutation(len(data["base"])).tolist()
        rows, order = order[: o.batch], order[o.batch :]
        warm = min(1, (step + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = o.rate * warm * 0.5 * (1 + math.cos(math.pi * step / o.steps))
        batch = batched(data, rows, o.by_cells)
        if o.jitter:
            b, f = len(rows), batch["tokens"].shape[2]
            noise = torch.randn(b, 1, f) * o.jitter * learned.scale.clamp(max=10)
            batch["tokens"] = batch["tokens"] + noise
        names = ("base", "share", "inside") if o.by_cells else ("level", "held", "count")
        level, share, count = (batch[name] for name in names)
        more = added(learned, batch)
        terms = losses(level + more, share, count)
        terms["much"] = (more**2 * count).sum() / count.sum()
        loss = o.dice * terms["dice"] + o.choice * terms["choice"] + o.hold * terms["much"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
        decay = min(0.99, (1 + step) / (10 + step))
        for k, v in learned.state_dict().items():
            average[k].lerp_(v, 1 - decay)
        if (step + 1) % o.period == 0 or step + 1 == o.steps:
            now = LearnedChoice(o.width, o.depth, 4, o.by_cells)
            now.load_state_dict(average)
            told = {k: round(v.item(), 3) for k, v in terms.items()}
            found = {} if validate is None else validate(now)
            curve.append({"step": step + 1, **told, **found})
            log(curve[-1], f"{time.monotonic() - start:.0f} s")
    return now, curve
