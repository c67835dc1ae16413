#!/usr/bin/env python
"""Measures how well objects are followed through a clip of which a few frames are annotated.

    python tools/evaluate_clip.py --video clip.mp4 --masks DIR --output scores.json
    python tools/evaluate_clip.py --video clip.mp4 --masks DIR --opts TEST.VIDEO.MEMORY fifo

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
from segic_d2.predictor import InContextPredictor, VideoPredictor
from segic_d2.utils.files import write_whole

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


def follow(video, source, truth):
    """({id: self-IoU}, {frame: predicted label map}) of the annotated frames. ValueError: the clip
    ends before the last of them."""
    first, last, told, maps = min(truth), max(truth), {}, {}

    def wanted():
        for shown in source:
            if shown.number == first:
                told.update(video.add(shown.image, truth[first]))
            if shown.number >= first:
                yield shown.image
            if shown.number == last:
                return

    for number, result in enumerate(video.track(wanted()), first):
        if number in truth:
            maps[number] = result.label_map()
    if last not in maps:
        raise ValueError(f"{source.source} ends before frame {last}, which is annotated")
    return told, maps


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


def main(argv=None):
    args = parse_args(argv)
    try:
        truth, source = read_truth(args.masks), open_video(args.video)
        cfg = load_config(args.config_file, args.opts)
        video = VideoPredictor(InContextPredictor(cfg, weights=args.weights))
        told, maps = follow(video, source, truth)
    except (OSError, ValueError, ImportError) as error:
        print(f"evaluate_clip: {error}", file=sys.stderr)
        return 1
    names = {}
    if (about := Path(args.masks) / "clip.json").is_file():
        names = json.loads(about.read_text()).get("objects", {})
    found, floor = evaluate(truth, maps), evaluate(truth, dict.fromkeys(truth, truth[min(truth)]))
    rows = {"all": (mean(found), mean(floor))} | {i: (found[i], floor[i]) for i in found}
    print(f"{'object':28}  self-IoU      J      F    J&F   floor")
    for i, (own, low) in rows.items():
        title = f"{i} {names.get(str(i), '')}"[:28]
        iou = f"{told[i]:8.2f}" if i in told else " " * 8
        figures = " ".join(f"{own[k]:6.1f}" for k in FIGURES)
        print(f"{title:28}  {iou} {figures}  {low['J&F']:6.1f}")
    if args.output:
        text = {
            "video": args.video,
            "frames": [*truth],
            "objects": {str(i): {**found[i], "self_iou": told[i]} for i in found},
            "floor": {str(i): floor[i] for i in floor},
            "mean": mean(found),
        }
        write_whole(args.output, json.dumps(text, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
