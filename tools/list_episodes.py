#!/usr/bin/env python
"""Prints the episodes of a few-shot benchmark as JSON lines; no image is read:

python tools/list_episodes.py coco20i --fold 0 --shots 5 --lists hsnet/data/splits

Each line has "class" (int), "target" (file name as in the list) and "references" (file names);
benchmarks of parts add "objects", the chosen object of the target and of each reference.
"""

import argparse
import json
import os
import sys

from segic_d2.data.benchmarks import BENCHMARK_REGISTRY, list_episodes


def get_parser():
    p = argparse.ArgumentParser(description=__doc__.split(":\n")[0])
    p.add_argument("benchmark", help=", ".join(sorted(name for name, _ in BENCHMARK_REGISTRY)))
    p.add_argument("--fold", type=int, default=0)
    p.add_argument("--shots", type=int, default=1, help="references per episode")
    p.add_argument(
        "--lists", help="folder of the lists; default: the benchmark's in $DETECTRON2_DATASETS"
    )
    return p


def lines(episodes):
    """The JSON lines of an ``EpisodeList``."""
    for e in episodes.episodes:
        line = {"class": e.class_id, "target": e.target, "references": list(e.references)}
        if e.objects is not None:
            line["objects"] = list(e.objects)
        yield json.dumps(line, ensure_ascii=False)


def main(argv=None):
    """Print the episodes on stdout, remarks on stderr; returns 1 after a line on failure."""
    args = get_parser().parse_args(argv)
    try:
        episodes = list_episodes(args.benchmark, args.fold, args.shots, args.lists)
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not episodes.standard:
        print(f"not the standard episodes: {episodes.note}", file=sys.stderr)
    for what in episodes.skipped:
        print(f"left out: {what}", file=sys.stderr)
    try:
        for line in lines(episodes):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:  # "| head" has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
