"""Trains and measures a learned choice among regions on collected evidence."""

import math
import time

import numpy as np
import torch

from draw_pairs import sheet
from segic_d2.evaluation.pairs import PooledIoU, boundary, overlap
from segic_d2.io.pictures import read_image
from segic_d2.modeling.segic.refinement import Refinement
from segic_d2.modeling.segic.regions.canvas import on_canvas
from segic_d2.modeling.segic.regions.choice_loss import choice_losses
from segic_d2.modeling.segic.regions.evidence import CELL, TOKEN, Evidence, region_tokens
from segic_d2.modeling.segic.regions.learned import LearnedChoice, Regions
from segic_d2.modeling.segic.regions.linkage import region_means
from segic_d2.structures.features import Features
from segic_d2.utils.visualizer import overlay, panel, save_image

REGIONS = "tokens", "alike", "exists", "count", "level", "held"
CELLS = "cells", "fine", "base", "share", "inside"
WARM = 50  # steps
RADIUS = 4  # of edges' filter, as in segic_demo.yaml; see Readout.of_regions
GROUPS = {  # of the tokens' channels, that may be left out
    "region": slice(0, len(CELL)),
    "parent": slice(len(CELL), 2 * len(CELL)),
    "best": slice(2 * len(CELL), 3 * len(CELL)),
    "place": slice(3 * len(CELL) + 1, 3 * len(CELL) + 9),
    "likeness": slice(3 * len(CELL) + 9, 3 * len(CELL) + 13),
    "reference": slice(TOKEN - 6, TOKEN),
}


def prepared(example):
    """What training needs of a packed example, see ``choice_evidence.packed``."""
    names = "cells", "references", "labels", "alike", "compact"
    cells, references, labels, alike, compact = (example[name].float() for name in names)
    base, small, share = example["base"].float(), example["small"], example["share"].float()
    own = cells[None], references[None], labels.long(), alike, compact, example["size"]
    x = Evidence(*own, small[None], base[None])
    means, count = region_means(torch.stack([base, share]), x.labels[1])
    found = {"tokens": region_tokens(x)[0], "alike": alike, "count": count}
    found |= {"level": means[0], "held": means[1]}  # of the regions
    return found | {"cells": cells, "fine": x.labels[1], "base": base, "share": share}


def stacked(examples):
    """Packed examples as tensors, padded: regions that "exist" (B, R), cells "inside" (B, n)."""
    examples = [prepared(x) for x in examples]
    counts = torch.tensor([[len(x["tokens"]), len(x["base"])] for x in examples])
    most = counts.amax(0).tolist()
    found = {}
    for name, first in examples[0].items():
        side = most[name in CELLS]
        axes = 2 if name == "alike" else 1
        dtype = torch.half if name == "cells" else first.dtype
        found[name] = torch.zeros(len(examples), *[side] * axes, *first.shape[axes:], dtype=dtype)
        for row, x in enumerate(examples):
            found[name][row][(slice(len(x[name])),) * axes] = x[name]
    found["exists"] = torch.arange(most[0]) < counts[:, :1]
    found["inside"] = (torch.arange(most[1]) < counts[:, 1:]).float()
    return found


def batched(data, rows, by_cells=True, device="cpu"):
    """Some rows of ``stacked``; without cells, regions alone."""
    names = REGIONS + CELLS * by_cells
    found = {name: data[name][rows].to(device) for name in names}
    most = int(found["exists"].sum(1).max())
    found |= {name: found[name][:, :most] for name in REGIONS}
    found["alike"] = found["alike"][:, :, :most]
    return found | ({"cells": found["cells"].float()} if by_cells else {})


def added(learned, x):
    """What is added to the logits of the cells, or without them of the regions."""
    own = (x["fine"], x["cells"]) if "cells" in x else ()
    return learned.added(Regions(x["tokens"], x["alike"], x["count"], x["level"]), *own)


class Measured:
    """Examples of a folder of pairs, with their targets and truths, to measure networks on."""

    def __init__(self, held):
        self.examples, self.targets = held["examples"], held["targets"]
        self.truths, self.data = held["truths"], stacked(held["examples"])
        self.edges = {}

    @torch.no_grad()
    def masks(self, learned):
        """Each example with its mask and truth, bool (H, W); None: as without training."""
        found = self.data["base"].clone()
        for rows in torch.arange(len(found)).split(32):
            if learned is not None:
                found[rows] += added(learned, batched(self.data, rows))
        for logits, inside, example in zip(found, self.data["inside"], self.examples, strict=True):
            frame, picture = self.targets[example["target"][0]]
            own = logits[inside > 0].unflatten(0, example["size"])[None]
            features = Features(torch.zeros(1, 1, 1, 1), [frame], [picture])
            refine = Refinement(RADIUS // 2 if example["small"] else RADIUS)
            fine = refine(on_canvas(own, frame.canvas // 14), features, 0, None, 0.0)
            yield example, frame.upsample(fine)[0] > 0, self.truths[example["target"]]

    def iou(self, learned):
        """mIoU as tools/evaluate_pairs.py has it without a second look."""
        sums = {}
        for example, mask, truth in self.masks(learned):
            own = sums.setdefault(example["kind"], np.zeros(2))
            own += np.array([int((mask & truth).sum()), int((mask | truth).sum())])
        return 100 * float(np.mean([a / b for a, b in sums.values()]))

    def measure(self, learned):
        """``PooledIoU.result``, with boundaries."""
        pooled = PooledIoU()
        for example, mask, truth in self.masks(learned):
            key = example["target"]
            if key not in self.edges:
                self.edges[key] = boundary(truth)
            pooled.add((key[1], example["kind"]), overlap(mask, truth, self.edges[key]))
        return pooled.result()


def standardise(learned, data, without=()):
    """Give a network the mean and deviation of some examples' tokens; groups of channels that are
    left out get a deviation beside which nothing shows."""
    tokens = data["tokens"][data["exists"]]
    learned.mean.copy_(tokens.mean(0))
    learned.scale.copy_(tokens.std(0).clamp(min=1e-3))
    for name in without:
        learned.scale[GROUPS[name]] = 1e6


def train(data, o, validate, seed=0):
    """The average of a network's weights at the step that ``validate`` (network → a number) likes
    best, and the curve, a dict per ``o.period`` steps. It ends after ``o.seconds``, if not 0."""
    torch.manual_seed(seed)
    rng, start = np.random.default_rng(seed), time.monotonic()
    learned = LearnedChoice(o.width, o.depth, by_cells=o.cells)
    standardise(learned, data, o.without)
    learned.to(o.device)
    optimizer = torch.optim.AdamW(learned.parameters(), o.rate, weight_decay=o.decay)
    average = {k: v.clone() for k, v in learned.state_dict().items()}
    best, curve, order = None, [], []
    names = ("base", "share", "inside") if o.cells else ("level", "held", "count")
    for step in range(1, o.steps + 1):
        if len(order) < o.batch:
            order = rng.permutation(len(data["base"])).tolist()
        rows, order = order[: o.batch], order[o.batch :]
        cosine = 0.5 * (1 + math.cos(math.pi * step / o.steps))
        optimizer.param_groups[0]["lr"] = o.rate * min(1, step / WARM) * cosine
        batch = batched(data, rows, o.cells, o.device)
        shift = torch.randn(len(rows), 1, TOKEN, device=o.device)  # of a whole episode's evidence
        batch["tokens"] = batch["tokens"] + o.jitter * shift * learned.scale.clamp(max=10)
        level, share, count = (batch[name] for name in names)
        more = added(learned, batch)
        terms = choice_losses(level + more, share, count)
        terms["much"] = (more**2 * count).sum() / count.sum()
        loss = terms["loss_dice"] + o.choice * terms["loss_choice"] + o.hold * terms["much"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned.parameters(), 1.0)
        optimizer.step()
        keep = min(0.99, step / (9 + step))
        for k, v in learned.state_dict().items():
            average[k].lerp_(v, 1 - keep)
        late = bool(o.seconds) and time.monotonic() - start > o.seconds
        if step % o.period == 0 or step == o.steps or late:
            now = LearnedChoice(o.width, o.depth, by_cells=o.cells)
            now.load_state_dict({k: v.cpu() for k, v in average.items()})
            told = {k: round(v.item(), 3) for k, v in terms.items()}
            curve.append({"step": step, **told, **validate(now)})
            if best is None or curve[-1]["mean"] > best[0]:
                best = curve[-1]["mean"], now
        if late:
            break
    return best[1], curve


def draw_changes(folders, learned, path, count=3, height=120):
    """Write a picture: of each set the ``count`` episodes that gained most and one that lost most,
    of a kind one at most; before, after, by hand."""
    rows = []
    for one in folders:
        found = []
        each = zip(one.masks(None), one.masks(learned), strict=True)
        for (example, before, truth), (_, after, _) in each:
            ious = [float((m & truth).sum() / (m | truth).sum()) for m in (before, after)]
            found.append((ious[1] - ious[0], ious, example, before, after, truth))
        found.sort(key=lambda x: -x[0])
        kinds = {}
        for entry in (*found[: 4 * count], found[-1]):
            kinds.setdefault(entry[2]["kind"], entry)
        for _, ious, example, *masks in [*kinds.values()][:count] + [found[-1]]:
            picture = read_image(example["target"][0])
            titles = f"{example['kind']}: before {ious[0]:.2f}", f"after {ious[1]:.2f}", "by hand"
            painted = [overlay(picture, m.numpy()[None]) for m in masks]
            rows.append(panel(list(zip(titles, painted, strict=True)), height))
    save_image(path, sheet(rows))
