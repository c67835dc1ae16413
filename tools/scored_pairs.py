"""Runs a model on pairs and on contexts of six kinds, and keeps what it scores by."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.io.pictures import read_image
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from segic_d2.predictor import InContextPredictor
from segic_d2.predictor.targets import read_target
from segic_d2.structures.context import Context
from segic_d2.structures.picture import Picture

KINDS = 6  # of a context
SIDE = 320  # px, the longest side on which contexts are compared
SHARE = 0.25  # of the best region's value beside its presence
# kinds that stand in each other's pictures, marked or not: neither is absent where the other is
TOGETHER = [
    set(group.split())
    for group in (
        "person hat tie sunglasses watch red_shirt postcard glass pool_table billiard_ball ball "
        "chessboard flag camera sign bottle",
        "car bus motorcycle sign person",
        "bird trunk",
        "pot flower",
        "blue_book white_book",
    )
]


class Observer:
    """Runs a model and keeps what it scores by."""

    def __init__(self, config, device, opts):
        self.predictor = InContextPredictor(config, device=device, opts=opts)
        self.model, self.seen = self.predictor.model, {}
        self.model.encoder.memory = FeatureMemory(4096)
        head = self.model.sem_seg_head
        if head.matcher is None or not head.decodes:
            raise ValueError(f"{config}: only a RegionMatchingHead with a decoder is calibrated")
        plain, measure = head.matcher.score, head.matcher._by_cut

        def keep(**values):  # of the first look
            self.seen = values | self.seen

        def score(presences, values):
            keep(presence=presences, value=values)
            return plain(presences, values)

        def by_cut(small, cuts, function, matched):
            if function.__name__ == "best_value":
                keep(highest=matched.cosines.amax(1), mean=matched.values.mean(1))
            return measure(small, cuts, function, matched)

        head.matcher.score, head.matcher._by_cut = score, by_cut
        head.register_forward_hook(lambda _, __, out: keep(quality=out.quality))
        self.contexts, self.features = {}, {}

    def context(self, folder, kind, file, i):
        """The context of one reference, its entity numbered ``i``."""
        key = folder.root, kind, file
        if key not in self.contexts:
            mask = folder.read(file, list(folder.masks).index(kind)).mask
            view = self.model.input.reference(Picture(read_image(file)), mask[None])
            view |= {"entity_ids": [0], "file_name": file}
            self.contexts[key] = self.model.encode_context([view], {0: kind})
        return replace(self.contexts[key], ids=[i])

    @torch.no_grad()
    def __call__(self, file, asked):
        """A segmentation of a file by [(folder, kind, reference)], and its evidence by name, float
        (N,)."""
        if file not in self.features:
            view, _, _ = read_target(file, self.model.input)
            self.features[file] = self.model.encode_images([view])
        context = Context.join_entities([self.context(*one, i) for i, one in enumerate(asked)])
        self.seen = {}
        found = self.model.segment(self.features[file], [context])[0]
        seen = {k: v.float().numpy() for k, v in self.seen.items()}
        best = seen["value"]
        rival = [max([0.0, *np.delete(best, i)]) for i in range(len(asked))]
        own = context.tensors["cell_prototypes"][:, 0].norm(dim=-1).amax(1).cpu().numpy()
        evidence = {
            "presence": seen["presence"],
            "value": best,
            "both": seen["presence"] + SHARE * best,
            "self": seen["highest"] / own.clip(0.1),
            "background": best - seen["mean"],
            "others": best - np.array(rival) if len(asked) > 1 else np.zeros(1),
            "quality": seen["quality"],
        }
        return found, evidence


def iou(mask, truth):
    return 0.0 if truth is None else float((mask & truth).sum() / max(1, (mask | truth).sum()))


def alike(one, other):
    return one == other or any(one in group and other in group for group in TOGETHER)


class Folders:
    """The pictures, kinds and truths of several folders."""

    def __init__(self, places):
        self.folders = [PairFolder(place) for place in places]
        self.kinds = {kind: folder for folder in self.folders for kind in folder.masks}
        self.same = defaultdict(list)  # files of the same pixels, of one kind each
        for folder in self.folders:
            for kind, pairs in folder.masks.items():
                for file in pairs:
                    self.same[read_image(file).tobytes()].append((folder, kind, file))

    def alone(self):
        """(file, (folder, kind, reference), truth or None) of pairs, and of as many absent ones."""
        for folder in self.folders:
            pairs = folder.episodes(1, 0)
            for present, episodes in ((True, pairs), (False, folder.absent(pairs, 0))):
                for e in episodes.episodes:
                    kind = folder.classes[e.class_id]
                    own = next(k for k, files in folder.masks.items() if e.target in files)
                    if present or not alike(kind, own):
                        truth = folder.read(e.target, e.class_id).mask if present else None
                        yield e.target, (folder, kind, e.references[0]), truth

    def mixed(self, seed):
        """(file, [(folder, kind, reference)] of six kinds, {kind: truth} and {kind: its name for
        the file} of those that are there) of each photograph."""
        rng = np.random.default_rng([seed, KINDS])
        for shown in self.same.values():
            files = {file for _, _, file in shown}
            truths = {k: f.read(file, list(f.masks).index(k)).mask for f, k, file in shown}
            other = [k for k in self.kinds if not any(alike(k, own) for own in truths)]
            others = rng.permutation(other)[: KINDS - len(truths)].tolist()
            asked = []
            for kind in rng.permutation([*truths, *others]).tolist():
                folder = next((f for f, k, _ in shown if k == kind), self.kinds[kind])
                free = [file for file in folder.masks[kind] if file not in files]
                if free:
                    asked.append((folder, kind, str(rng.choice(free))))
            yield shown[0][2], asked, truths, {kind: file for _, kind, file in shown}

    def asked_for(self, shots, seeds):
        """(setting, folder, file, {kind: [(folder, kind, reference)]}, {kind: truth}):
        "shown", one kind with every other picture of it once among the references; "other", a
        picture without it; "six", six kinds in each photograph. Kinds have up to so many
        references, and two at least where more than one is asked for."""
        least = min(shots, 2)
        known = {(f, k): [*m] for f in self.folders for k, m in f.masks.items() if len(m) > least}
        photos = [(s[0][2], {k: (f, file) for f, k, file in s}) for s in self.same.values()]
        for (folder, kind), files in known.items():
            rng, row = np.random.default_rng([shots, *kind.encode()]), [*folder.masks].index(kind)
            pairs = {}
            for picture, first in ((a, b) for a in files for b in files if a != b):
                rest = [f for f in files if f not in (picture, first)]
                more = rng.permutation(rest)[: shots - 1].tolist()
                pairs[picture, tuple(sorted([first, *more]))] = None
            for picture, shown in pairs:
                asked = {kind: [(folder, kind, file) for file in shown]}
                yield "shown", folder.root, picture, asked, {kind: folder.read(picture, row).mask}
                free = [file for file, there in photos if not any(alike(kind, k) for k in there)]
                if free:
                    yield "other", folder.root, str(rng.choice(free)), asked, {}
        homes = {kind: (folder, kind) for folder, kind in known}
        for seed in range(seeds):
            rng = np.random.default_rng([seed, shots])
            for picture, there in photos:
                own = {k: f for k, (f, _) in there.items() if (f, k) in known}
                other = sorted(k for k in homes if not any(alike(k, t) for t in there))
                chosen = [*own, *rng.permutation(other)[: KINDS - len(own)].tolist()]
                asked, truths = {}, {}
                for kind in rng.permutation(chosen).tolist():
                    home = (own[kind], kind) if kind in own else homes[kind]
                    free = [f for f in known[home] if f not in {file for _, file in there.values()}]
                    if free:
                        asked[kind] = [(*home, f) for f in rng.permutation(free)[:shots].tolist()]
                        if kind in own:
                            folder, file = there[kind]
                            truths[kind] = folder.read(file, [*folder.masks].index(kind)).mask
                if truths:
                    yield "six", next(iter(own.values())).root, picture, asked, truths


def observe(observer, folders, seeds):
    """Examples: one entity of one answer each, {"file", "kind", "home", "mode", "evidence",
    "good"}; and the answers of the mixed contexts."""
    examples, mixed, known = [], [], {}

    def add(file, home, mode, found, evidence, row, kind, truth):
        one = {name: float(values[row]) for name, values in evidence.items()}
        mask = found.masks[row].numpy()
        counts = None if truth is None else ((mask & truth).sum(), (mask | truth).sum())
        about = {"file": file, "kind": kind, "home": home, "mode": mode, "evidence": one}
        examples.append({**about, "good": iou(mask, truth) >= 0.5, "counts": counts})
        return examples[-1]

    for file, asked, truth in folders.alone():
        found, evidence = observer(file, [asked])
        home, mode = Path(file).parent.name, "absent" if truth is None else "present"
        one = add(file, home, mode, found, evidence, 0, asked[1], truth)
        if truth is not None:
            known[file, asked[1:]] = one
    for seed in range(seeds):
        for file, asked, truths, own in folders.mixed(seed):
            found, evidence = observer(file, asked)
            first = len(examples)
            for row, (_, kind, _) in enumerate(asked):
                args = found, evidence, row, kind, truths.get(kind)
                add(file, Path(file).parent.name, "mixed", *args)
            alone = {}
            for _, kind, shown in asked:
                one = known.get((own.get(kind), (kind, shown)))
                if one is not None:
                    alone[kind] = one["counts"]
            small = smaller(found)
            mixed.append((small, slice(first, len(examples)), fitting(truths, small), alone))
    return examples, mixed


def smaller(found, side=SIDE):
    """A segmentation of a picture whose longest side is ``side`` px at most."""
    height, width = found.frame.size
    share = min(1.0, side / max(height, width))
    size = max(1, round(height * share)), max(1, round(width * share))
    some = replace(found, logits=found.logits.half(), frame=replace(found.frame, size=size))
    some.similarity = None
    return some


def fitting(truths, found):
    """Masks {kind: bool (H, W)} in the size of a segmentation."""
    height, width = found.frame.size
    size = {"size": (height, width), "mode": "nearest-exact"}
    return {
        kind: F.interpolate(torch.from_numpy(t)[None, None].float(), **size).bool()[0, 0].numpy()
        for kind, t in truths.items()
    }
