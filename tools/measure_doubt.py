#!/usr/bin/env python
"""Compares measures of how doubtful a labelled picture is.

    python tools/measure_doubt.py datasets/real_validation{,_B,_C}
    python tools/measure_doubt.py REAL

DIRs are folders of tools/evaluate_pairs.py, each a set of its own. A picture is asked for one kind
that it shows ("shown": every other picture of the kind is once the reference), for that or, as
often, for one that it does not show ("one"), and for six kinds at once ("six"); with one reference
each, and with up to three, at least two. Its error is the sum of 1 − IoU over kinds that are there,
and 1 for each other kind that gets a mask. The columns are the share of a set's whole error that
the most doubtful quarter of its pictures has (the most doubtful tenth in the last), and the area
under the ROC for pictures whose mean IoU is below ½, and below ¾; means over the DIRs.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from segic_d2.evaluation.pairs import auroc, boundary
from segic_d2.predictor.doubt import doubt
from segic_d2.predictor.targets import read_target
from segic_d2.structures.context import Context

sys.path.insert(0, str(Path(__file__).resolve().parent))
from scored_pairs import Folders, Observer, fitting, iou, smaller  # noqa: E402

SHOTS = 1, 3
SETTINGS = {"shown": ("shown",), "one": ("shown", "other"), "six": ("six",)}
LAST = "mean", "IoU < ½", "IoU < ¾", "tenth"
SEEDS = 3  # of the contexts of six kinds


def kept(per, nothing=0.0):
    """Values of what is shown; ``nothing`` for what is left out."""
    return lambda x: np.where(x["kept"], per(x), nothing)


def entropy(p):
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return -p * np.log2(p) - (1 - p) * np.log2(1 - p)


def near(x, sure=1.0):
    """``doubt`` of each entity, by a score that is less sure."""
    return np.where(x["kept"], 1 - x["score"] * sure, np.minimum(1, x["score"] / x["least"]))


def empty(x, least):
    """ "That × firmness"; where a picture shows nothing at all, ``least`` or more."""
    own = near(x, 1 - x["soft"])
    return own if x["kept"].any() else np.maximum(own, least)


FORMULAS = {  # of each entity, whose mean or highest is a picture's
    "1 − score of what is shown": kept(lambda x: 1 - x["score"]),
    "… or the score of what is left out": lambda x: kept(lambda x: 1 - x["score"], x["score"])(x),
    "nearness of the score to ½": lambda x: 1 - 2 * abs(x["score"] - 0.5),
    "entropy of the score": lambda x: entropy(x["score"]),
    "softness of the mask": kept(lambda x: x["soft"]),
    "softness of its edge": kept(lambda x: x["edge"]),
    "1 − IoU of single shots": lambda x: 1 - x["shots"],
    "1 − IoU of decoder and regions": kept(lambda x: 1 - x["heads"]),
    "nearness of the score to ABSENT": near,
    "that × single shots": lambda x: 1 - (1 - near(x)) * x["shots"],
    "that × heads": lambda x: near(x, x["heads"]),
    "that × firmness": lambda x: near(x, 1 - x["soft"]),
    "that × firmness, nothing at all ≥ ½": lambda x: empty(x, 0.5),
    "that × firmness, nothing at all ≥ ¾": lambda x: empty(x, 0.75),
    "that × firmness, nothing at all 1": lambda x: empty(x, 1.0),
    "that × edge": lambda x: near(x, 1 - x["edge"]),
    "that × firmness × single shots": lambda x: 1 - (1 - near(x, 1 - x["soft"])) * x["shots"],
    "that × firmness × heads": lambda x: near(x, (1 - x["soft"]) * x["heads"]),
}


def cells(found, least=0.0):
    """Which cells of the content the masks of a segmentation, or what it shows, hold: bool (N, h,
    w); none of those of what is left out."""
    height, width = found.frame.rows_columns(found.logits.shape[-1])
    whole = (found.logits > found.threshold)[:, :height, :width].numpy()
    if not least:
        return whole
    some, held = found.compete(least), np.zeros_like(whole)
    held[[found.ids.index(i) for i in some.ids]] = cells(some)
    return held


def agreement(one, other):
    """IoU (N,) of masks bool (N, h, w), 1 where both are empty."""
    union = (one | other).sum((1, 2))
    return np.where(union > 0, (one & other).sum((1, 2)) / union.clip(1), 1.0)


class Asker(Observer):
    """Asks a model for kinds in a picture, and for second opinions."""

    def segment(self, features, context, share=None):
        """By the head, or by the decoder's share of it: 1 alone, 0 without it."""
        matcher = self.model.sem_seg_head.matcher
        options = matcher.options
        matcher.options = options if share is None else replace(options, decoder=share)
        found = self.model.segment(features, [context])[0]
        matcher.options = options
        return found

    @torch.no_grad()
    def __call__(self, picture, asked, truths):
        """What formulas are of, float (N,) each; the shipped "doubt", "error" and mean "IoU"."""
        known, least = self.features, self.model.absent
        if picture not in known:
            view = read_target(picture, self.model.input)[0]
            known[picture] = self.model.encode_images([view])
        features, shots = known[picture], max(map(len, asked.values()))
        parts = [[self.context(*s, i) for s in r] for i, r in enumerate(asked.values())]
        context = Context.join_entities([Context.join_shots(p) for p in parts])
        found = self.segment(features, context)
        shown, singles = cells(found, least), []
        for shot in range(shots if shots > 1 else 0):
            one = Context.join_entities([p[shot % len(p)] for p in parts])
            singles.append(agreement(shown, cells(self.segment(features, one), least)))
        heads = [cells(self.segment(features, context, share)) for share in (1.0, 0.0)]
        small = smaller(found.compete(least))
        masks = {n: m for n, m in zip(small.names, small.masks.numpy(), strict=True) if m.any()}
        truths = fitting(truths, small)
        nothing = np.zeros(small.frame.size, bool)
        own = [iou(masks.get(k, nothing), truths.get(k)) for k in {*masks, *truths}]
        height, width = shown.shape[1:]
        above = (found.logits - found.threshold)[:, :height, :width]
        soft = 1 - above.div(2).tanh().abs().numpy()  # 1 where a pixel's probability is ½
        edges = np.stack([boundary(mask).numpy() for mask in above > 0])
        return {
            "least": least,
            "score": found.compete().scores.numpy(),
            "kept": shown.any((1, 2)),
            "soft": (soft * shown).sum((1, 2)) / shown.sum((1, 2)).clip(1),
            "edge": (soft * edges).sum((1, 2)) / edges.sum((1, 2)).clip(1),
            "shots": np.mean(singles, 0) if singles else np.ones(len(found)),
            "heads": agreement(*heads),
            "doubt": doubt(found, least).value,
            "error": sum(1 - x for x in own),
            "IoU": np.mean(own) if own else 1.0,
        }


def share(doubts, errors, part=0.25):
    """The share of all errors that the most doubtful part has; equal doubts share theirs."""
    doubts, errors = np.asarray(doubts, float), np.asarray(errors, float)
    _, place, count = np.unique(-doubts, return_inverse=True, return_counts=True)
    each = (np.bincount(place, errors) / count)[place][np.argsort(-doubts, kind="stable")]
    weight = np.clip(part * len(each) - np.arange(len(each)), 0, 1)
    return (weight * each).sum() / max(errors.sum(), 1e-9)


def columns(rows, values):
    """The row of the table, a mean over DIRs each: shares for SHOTS × SETTINGS; then over these,
    their mean, and those of both areas and of the most doubtful tenth's share."""
    quarters, others = [], []
    for shots in SHOTS:
        for modes in SETTINGS.values():
            own = [i for i, x in enumerate(rows) if x["K"] == shots and x["setting"] in modes]
            found = []
            for home in {rows[i]["home"] for i in own}:
                some = [i for i in own if rows[i]["home"] == home]
                d, e = values[some], np.array([rows[i]["error"] for i in some])
                good = np.array([rows[i]["IoU"] for i in some])
                areas = [auroc(d[good < level], d[good >= level]) for level in (0.5, 0.75)]
                found.append([share(d, e), *areas, share(d, e, 0.1)])
            quarter, *rest = np.nanmean(np.reshape(found, (-1, 4)), 0)
            quarters.append(quarter)
            others.append(rest)
    return [*quarters, np.nanmean(quarters), *np.nanmean(others, 0)]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders of class folders")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of the contexts of six kinds")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)
    try:
        asker = Asker(args.config_file, args.device, ())
        folders = Folders(args.folders)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    rows = []
    for shots in SHOTS:
        for setting, home, *how in folders.asked_for(shots, args.seeds):
            rows.append({"K": shots, "setting": setting, "home": home, **asker(*how)})
    shown = {"shipped": [x["doubt"] for x in rows], "the error itself": [x["error"] for x in rows]}
    for title, formula in FORMULAS.items():
        for name, of in (("mean", np.mean), ("highest", np.max)):
            shown[f"{title}; {name}"] = [of(formula(x)) for x in rows]
    titles = [*(f"{k}: {name}" for k in SHOTS for name in SETTINGS), *LAST]
    print("\n".join(["| doubt | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]))
    for title, values in shown.items():
        own = columns(rows, np.array(values))
        print(f"| {title} | " + " | ".join(f"{x:.3f}" for x in own) + " |")


if __name__ == "__main__":
    main()
