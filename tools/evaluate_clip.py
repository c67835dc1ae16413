#!/usr/bin/env python
"""Measures how well objects are followed through a clip of which a few frames are annotated.

    python tools/evaluate_clip.py --video clip.mp4 --masks DIR --output scores.json
    python tools/evaluate_clip.py --video clip.mp4 --masks DIR --opts TEST.VIDEO.MEMORY fifo
    python tools/evaluate_clip.py --video clip.mp4 --masks DIR \\
        --variants "" "TEST.VIDEO.MEMORY fifo" "TEST.VIDEO.WINDOW 0.0"

DIR holds NNNNN.png, the label map of frame NNNNN (from 0, in the order of decoding): values are ids
of objects, 0 is background; a clip.json beside them may name the objects. The first map is given,
every frame is shown in order, and J and F are of the other annotated frames, the last one included,
by DAVIS' functions; means over frames, then over objects. Beside them stands the floor: the first
map copied to every frame. All figures are percentages.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from segic_d2.config.load import load_config
from segic_d2.evaluation.video import score_frames
from segic_d2.io.video import open_video
from segic_d2.io.video_masks import read_video_mask
from segic_d2.modeling.layers.feature_memory import FeatureMemory
from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.predictor.video_options import VideoOptions
from segic_d2.utils.files import write_whole

sys.path.insert(0, str(Path(__file__).resolve().parent))
from machine import markdown  # noqa: E402

MEGABYTES = 64  # of features that variants share
FIGURES = {"J": "J-Mean", "F": "F-Mean", "J&F": "J&F-Mean"}


def parse_args(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", required=True, help="a file, or a folder of pictures")
    parser.add_argument("--masks", required=True, metavar="DIR", help="NNNNN.png of some frames")
    parser.add_argument("--output", metavar="FILE.json", help="where the figures are written")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--weights", help="trained weights; default: the config's MODEL.WEIGHTS")
    parser.add_argument("--opts", nargs="*", default=[], metavar="KEY VALUE", help="of the config")
    parser.add_argument(
        "--variants", nargs="+", metavar="OPTS", help="each 'KEY VALUE …' of TEST.VIDEO, or ''"
    )
    return parser.parse_args(argv)


def read_truth(folder):
    """{frame: label map}, frames ascending. FileNotFoundError: fewer than two; ValueError: a file
    that is no label map."""
    files = sorted(
        (f for f in Path(folder).glob("*.png") if f.stem.isdigit()), key=lambda f: f.stem
    )
    if len(files) < 2:
        raise FileNotFoundError(f"{folder} holds {len(files)} label maps NNNNN.png; two are needed")
    found = {int(file.stem): read_video_mask(file).labels for file in files}
    return dict(sorted(found.items()))


def follow(videos, source, truth):
    """For each of some VideoPredictors ({id: self-IoU}, {frame: predicted label map}) of the
    annotated frames. ValueError: the clip ends before the last of them."""
    first, last = min(truth), max(truth)
    found = [({}, {}) for _ in videos]
    for shown in source:
        for video, (told, maps) in zip(videos, found, strict=True):
            if shown.number == first:
                told.update(video.add(shown.image, truth[first]))
            if shown.number >= first:
                result = video.step(shown.image)
                if shown.number in truth:
                    maps[shown.number] = result.label_map()
        if shown.number == last:
            return found
    raise ValueError(f"{source.source} ends before frame {last}, which is annotated")


def evaluate(truth, maps):
    """{id: {"J", "F", "J&F"}} in percent at all annotated frames but the first."""
    first, *others = truth
    ids = [i for i in np.unique(truth[first]).tolist() if i not in (0, 255)]
    frames = dict.fromkeys(ids, range(1, len(truth)))
    scores = score_frames([*truth.values()], [maps[n] for n in truth], frames)
    return {i: {k: scores[i].summary()[name] for k, name in FIGURES.items()} for i in ids}


def mean(objects):
    """The mean over objects of each figure."""
    return {k: float(np.mean([one[k] for one in objects.values()])) for k in FIGURES}


def predictors(args):
    """A VideoPredictor for each variant, all of one model that encodes a frame once."""
    predictor = InContextPredictor(load_config(args.config_file, args.opts), weights=args.weights)
    if args.variants is None:
        return [VideoPredictor(predictor)]
    found = []
    for variant in args.variants:
        if other := [key for key in variant.split()[::2] if not key.startswith("TEST.VIDEO.")]:
            raise ValueError(f"--variants: {other[0]} is no key of TEST.VIDEO; see --opts")
        cfg = load_config(args.config_file, [*args.opts, *variant.split()])
        found.append(VideoPredictor(predictor, VideoOptions.from_config(cfg)))
    predictor.model.encoder.memory = FeatureMemory(MEGABYTES)
    return found


def table(variants, floor, scores, told, names):
    """Markdown: a row for each variant with J / F of each object and the mean J&F."""
    titles = [f"{i} {names.get(str(i), '')}".strip() for i in floor]
    lines = [["variant", *(f"{t}: J / F" for t in titles), "J&F", "self-IoU"]]
    rows = [("first mask copied", floor, None)]
    rows += [(v or "as it is", s, t) for v, s, t in zip(variants, scores, told, strict=True)]
    for title, objects, ious in rows:
        cells = [f"{one['J']:.1f} / {one['F']:.1f}" for one in objects.values()]
        own = "" if ious is None else ", ".join(f"{ious[i]:.2f}" for i in objects)
        lines.append([title, *cells, f"{mean(objects)['J&F']:.1f}", own])
    return markdown(lines)


def main(argv=None):
    args = parse_args(argv)
    try:
        truth, source = read_truth(args.masks), open_video(args.video)
        runs = follow(predictors(args), source, truth)
    except (OSError, ValueError, ImportError) as error:
        print(f"evaluate_clip: {error}", file=sys.stderr)
        return 1
    names = {}
    if (about := Path(args.masks) / "clip.json").is_file():
        names = json.loads(about.read_text()).get("objects", {})
    floor = evaluate(truth, dict.fromkeys(truth, truth[min(truth)]))
    scores, told = [evaluate(truth, maps) for _, maps in runs], [ious for ious, _ in runs]
    if args.variants is None:
        show(scores[0], floor, told[0], names)
    else:
        print(table(args.variants, floor, scores, told, names))
    if args.output:
        found = [
            {
                "objects": {str(i): {**one[i], "self_iou": ious[i]} for i in one},
                "mean": mean(one),
            }
            for one, ious in zip(scores, told, strict=True)
        ]
        text = {
            "video": args.video,
            "frames": [*truth],
            "floor": {str(i): floor[i] for i in floor},
        }
        if args.variants is None:
            text |= found[0]
        else:
            text["variants"] = [{"opts": v, **x} for v, x in zip(args.variants, found, strict=True)]
        write_whole(args.output, json.dumps(text, indent=1))
    return 0


def show(found, floor, told, names):
    """Print the figures of one run, object by object."""
    rows = {"all": (mean(found), mean(floor))} | {i: (found[i], floor[i]) for i in found}
    print(f"{'object':28}  self-IoU      J      F    J&F   floor")
    for i, (own, low) in rows.items():
        title = f"{i} {names.get(str(i), '')}"[:28]
        iou = f"{told[i]:8.2f}" if i in told else " " * 8
        figures = " ".join(f"{own[k]:6.1f}" for k in FIGURES)
        print(f"{title:28}  {iou} {figures}  {low['J&F']:6.1f}")


if __name__ == "__main__":
    sys.exit(main())
