#!/usr/bin/env python
"""Measures references that are a box or one click, beside the mask, on folders of pairs.

    python tools/evaluate_prompts.py datasets/real_validation OTHER_DIR … --output prompts.json

Every ordered pair of a class is an episode, as in tools/evaluate_pairs.py. The reference is given
as its mask; as the mask's tight box; as GrabCut's mask from that box (OpenCV, five rounds); as one
click on the pixel that lies deepest in the mask; and as discs around that pixel, whose radius and
whose diameter is 5 % of the picture's shorter side. The figures are IoU in percent, by class, and
"of it": the mean as a share of the mask's.
"""

import argparse
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage

from segic_d2.data.benchmarks.pairs import PairFolder
from segic_d2.evaluation.pairs import PooledIoU, overlap
from segic_d2.io.pictures import read_image
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from segic_d2.predictor import InContextPredictor
from segic_d2.utils.files import write_whole

DISC = 0.05  # of the picture's shorter side


def box(mask: np.ndarray) -> list[int]:
    """Left, upper, right, lower edge of a mask, px."""
    y, x = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return [int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1]


def innermost(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of the pixel that is farthest from what is outside the mask; so is the border."""
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(x), int(y)


def grab_cut(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """GrabCut's mask from the box of a mask; the box where it finds nothing."""
    left, upper, right, lower = box(mask)
    found = np.full(mask.shape, cv2.GC_BGD, np.uint8)
    found[upper:lower, left:right] = cv2.GC_PR_FGD
    if (found != cv2.GC_BGD).all():
        return found > 0
    cv2.setRNGSeed(0)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(image[..., ::-1].copy(), found, None, *models, 5, cv2.GC_INIT_WITH_MASK)
    inside = np.isin(found, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return inside if inside.any() else found == cv2.GC_PR_BGD


def disc(mask: np.ndarray, radius: float) -> np.ndarray:
    """A disc around the innermost pixel, ``radius`` in shares of the shorter side."""
    x, y = innermost(mask)
    rows, columns = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return np.hypot(rows - y, columns - x) <= max(1.0, radius * min(mask.shape))


FORMS = {
    "mask": lambda image, mask: mask,
    "box": lambda image, mask: {"box": box(mask)},
    "GrabCut": grab_cut,
    "click": lambda image, mask: {"points": [[p + 0.5 for p in innermost(mask)]]},
    "disc, radius 5 %": lambda image, mask: disc(mask, DISC),
    "disc, diameter 5 %": lambda image, mask: disc(mask, DISC / 2),
}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders of class folders")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", help="JSON file for all figures")
    parser.add_argument("--opts", nargs="+", default=[], help="config KEY VALUE pairs")
    return parser.parse_args(argv)


def measure(predictor, folder, forms):
    """The IoU of each form, by class: {form: PooledIoU.result()}."""
    told = {form: PooledIoU() for form in forms}
    for label, pairs in enumerate(folder.masks.values()):
        files = list(pairs)
        truth = {file: folder.read(file, label).mask for file in files}
        for shown in files:
            for form in forms:
                given = FORMS[form](read_image(shown), truth[shown])
                predictor.set_references([(shown, given, folder.classes[label])])
                others = [file for file in files if file != shown]
                results = predictor.predict(others, independent=True, progress=False)
                for file, found in zip(others, results, strict=True):
                    counts = overlap(*map(torch.from_numpy, (found.masks[0], truth[file])))
                    told[form].add((label, folder.classes[label]), counts)
    return {form: one.result() for form, one in told.items()}


def main(argv=None):
    args = parse_args(argv)
    try:
        folders = [PairFolder(folder) for folder in args.folders]
        predictor = InContextPredictor(args.config_file, device=args.device, opts=args.opts)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    predictor.model.encoder.memory = FeatureMemory(4096)
    found = {}
    for place, folder in zip(args.folders, folders, strict=True):
        found[place] = measure(predictor, folder, args.forms)
        print(f"\n{Path(place).name}\n| reference | mean | of it | " + " | ".join(folder.masks))
        print("|---" * (len(folder.masks) + 3) + "|")
        for form, result in found[place].items():
            whole = found[place].get("mask", result)["IoU"]
            own = " | ".join(f"{each['IoU']:.1f}" for each in result["classes"].values())
            print(f"| {form} | {result['IoU']:.1f} | {result['IoU'] / whole:.3f} | {own} |")
    if args.output:
        write_whole(args.output, json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
