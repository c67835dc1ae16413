"""Collects evidence of episodes for a learned choice; every picture is encoded once."""

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from detectron2.data import DatasetCatalog
from pycocotools import mask as rle
from torch.nn import functional as F

from segic_d2.io.pictures import read_image
from segic_d2.predictor.targets import read_target
from segic_d2.structures.context import Context
from segic_d2.structures.picture import Picture

LEAST = 0.004  # share of the scene that a class has to have to be asked for
EVIDENCE = "cells", "references", "labels", "alike", "compact", "base", "small"


@dataclass
class Scene:
    """A picture and its masks bool (H, W) by (class, object)."""

    file: str
    masks: dict

    def classes(self):
        """{class: its mask} of those that are large enough."""
        found = {}
        for (kind, _), mask in self.masks.items():
            found[kind] = found[kind] | mask if kind in found else mask
        return {kind: mask for kind, mask in found.items() if mask.mean() >= LEAST}


def read_scenes(name):
    """The scenes of a registered data set with instance annotations, such as composites_train."""
    scenes = []
    for record in DatasetCatalog.get(name):
        size = record["height"], record["width"]
        masks = {}
        for a in record["annotations"]:
            found = a["segmentation"]
            if isinstance(found, list):
                found = rle.merge(rle.frPyObjects(found, *size))
            elif isinstance(found["counts"], list):
                found = rle.frPyObjects(found, *size)
            key = a["category_id"], a.get("object", a.get("id", len(masks)))
            mask = rle.decode(found).astype(bool)
            masks[key] = masks[key] | mask if key in masks else mask
        scenes.append(Scene(record["file_name"], masks))
    return scenes


class Collector:
    """Runs a region head and keeps what its learned part would see."""

    def __init__(self, model):
        self.model, self.matcher = model, model.sem_seg_head.matcher

    @torch.no_grad()
    def context(self, file, mask, kind):
        view = self.model.input.reference(Picture(read_image(file)), mask[None])
        view |= {"entity_ids": [0], "file_name": file}
        return self.model.encode_context([view], {0: kind})

    @torch.no_grad()
    def features(self, file):
        view, _, _ = read_target(file, self.model.input)
        return self.model.encode_images([view])

    @torch.no_grad()
    def __call__(self, features, contexts):
        """Evidence of one target by contexts of an entity each, asked for together."""
        seen = []
        context = Context.join_entities([replace(c, ids=[i]) for i, c in enumerate(contexts)])
        learned = self.matcher.learned
        hook = learned.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        found = self.model.segment(features, [context])[0]
        hook.remove()
        return seen[0], found


def shares(mask, frame, grid, size):
    """The share of a mask bool (H, W) in the cells of a content, (n,)."""
    height, width = frame.content
    mask = torch.from_numpy(mask).float()[None, None]
    small = F.interpolate(mask, (height, width), mode="area")[0, 0]
    padded = F.pad(small, (0, frame.canvas - width, 0, frame.canvas - height))
    cells = F.adaptive_avg_pool2d(padded[None], grid)[0]
    return cells[: size[0], : size[1]].flatten()


def packed(evidence, row, share, about):
    """One entity's evidence on the CPU, small enough to keep thousands."""
    x = evidence
    told = {
        "cells": x.cells[row].half(),
        "references": x.references[row].float(),
        "labels": x.labels.to(torch.int16),
        "alike": x.alike.half(),
        "compact": x.compact.float(),
        "size": x.size,
        "base": x.base[row].half(),
        "small": x.small[row],
        "share": share.half(),
    }
    told = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in told.items()}
    return told | about


def collect(collector, scenes, rng, references=2, cut=0.35):
    """Examples of episodes among some scenes: a class of one, references of the class in others;
    half of the targets are also asked for all that was drawn together, and for something absent."""
    classes = [scene.classes() for scene in scenes]
    asked = _references(classes, rng, cut)
    contexts = {
        (kind, i): collector.context(scenes[i].file, classes[i][kind], str(kind))
        for kind, places in asked.items()
        for i in places
    }
    grid = collector.model.input.canvas // 14
    for i, found in enumerate(classes):
        drawn = []
        for kind in found:
            others = [j for j in asked.get(kind, ()) if j != i]
            drawn += [(kind, int(j)) for j in rng.permutation(others)[:references]]
        if not drawn:
            continue
        target = collector.features(scenes[i].file)
        groups = [[one] for one in drawn]
        if rng.random() < 0.5:
            together = {drawn[row][0]: drawn[row] for row in rng.permutation(len(drawn))}
            absent = [k for k in asked if all(k != one for one, _ in scenes[i].masks)]
            extra = [(k, int(rng.choice(asked[k]))) for k in rng.permutation(absent)[:1]]
            groups.append([*together.values(), *extra])
        for group in groups:
            evidence, _ = collector(target, [contexts[one] for one in group])
            for row, (kind, j) in enumerate(group):
                share = torch.zeros(evidence.cells.shape[1])  # of what is absent
                if kind in found:
                    share = shares(found[kind], target.frames[0], grid, evidence.size)
                own, other = ({o for k, o in scenes[n].masks if k == kind} for n in (i, j))
                about = {"kind": str(kind), "same": bool(own & other), "together": len(group)}
                yield packed(evidence, row, share, about)


def _references(classes, rng, cut):
    """{class: scenes that show it to others}, a share of those that hold it and two at least."""
    shown = defaultdict(list)
    for i, found in enumerate(classes):
        for kind in found:
            shown[kind].append(i)
    return {
        kind: [int(i) for i in rng.permutation(places)[: max(2, round(cut * len(places)))]]
        for kind, places in shown.items()
        if len(places) > 1
    }


def collect_folder(collector, folder):
    """Examples of all pairs of a ``PairFolder``, {target: (frame, picture)} and {(target, class):
    truth bool (H, W)}."""
    contexts, features, examples, truths = {}, {}, [], {}
    grid = collector.model.input.canvas // 14
    for e in sorted(folder.episodes(1, 0).episodes, key=lambda e: e.target):
        shown, key = (e.references[0], e.class_id), (e.target, e.class_id)
        if shown not in contexts:
            contexts[shown] = collector.context(shown[0], folder.read(*shown).mask, "")
        if e.target not in features:
            features[e.target] = collector.features(e.target)
        target, truths[key] = features[e.target], torch.from_numpy(folder.read(*key).mask.copy())
        evidence, _ = collector(target, [contexts[shown]])
        share = shares(truths[key].numpy(), target.frames[0], grid, evidence.size)
        about = {"kind": folder.classes[e.class_id], "target": key}
        one = packed(evidence, 0, share, about)
        examples.append(one | {"base": evidence.base[0].float().cpu()})
    targets = {file: (x.frames[0], x.pictures[0].clone()) for file, x in features.items()}
    return {"examples": examples, "targets": targets, "truths": truths}
