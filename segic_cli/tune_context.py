"""Learn a context of labelled pictures: better references, the model stays as it is.

segic tune-context --references folder:/data/mushrooms --output mushrooms.safetensors
segic segment --context mushrooms.safetensors --input new/ --output found

Minutes on a CPU. Before and after are measured on pictures that are held out, or on --test, and
the better context is written. DATA is a folder or what a labelling tool exported, such as
coco:JSON:IMAGES (docs/formats.md), or a registered data set.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .checks import UsageError, count, need_folder, number
from .options import add_model, check_model, new_predictor
from .process import rest_waiting_threads
from .train import dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic tune-context``."""
    add = parser.add_argument
    add("--references", required=True, nargs="+", metavar="DATA", help="what is learned from")
    add("--test", nargs="+", metavar="DATA", help="what is measured on; default: a part of them")
    add("--output", required=True, metavar="FILE", help="the context, a .safetensors file")
    add("--instances", action="store_true", help="the context is asked for each object by itself")
    add("--steps", type=count, default=60, help="default: 60")
    add("--batch", type=count, default=4, help="targets of a step; default: 4")
    above = "of Adam, as a share of each tensor's root mean square; default: 0.1"
    add("--rate", type=number(1e-9), default=0.1, help=above)
    add("--seed", type=int, default=0, help="default: 0")
    add("--shots", type=count, default=8, help="references of a class, at most; default: 8")
    add_model(parser)


def check(args: argparse.Namespace) -> tuple[list[str], list[str] | None]:
    """DATA to learn from and to test on. UsageError or OSError: what can be wrong before anything
    is imported."""
    if not args.output.endswith(".safetensors"):
        raise UsageError(f"--output {args.output}: it must end in .safetensors")
    if args.seed < 0:
        raise UsageError(f"--seed is {args.seed}; it must be 0 or above")
    need_folder("--output", Path(args.output).parent)
    check_model(args)
    return _datasets(args.references), _datasets(args.test) if args.test else None


def _datasets(places: Sequence[str]) -> list[str]:
    return [dataset(place) for place in places]


def run(args: argparse.Namespace) -> int:
    """Tune, print before and after, and write the better context; returns the exit status."""
    references, test = check(args)
    rest_waiting_threads()
    predictor = new_predictor(args)
    predictor.need_free(args.output)
    how = {name: getattr(args, name) for name in ("steps", "batch", "rate", "seed", "shots")}
    task = "instance" if args.instances else "semantic"
    report = predictor.tune_context(references, test, task=task, **how)
    predictor.save_context(args.output)
    print(f"{report}\nthe better context is in {args.output}")
    return 0
