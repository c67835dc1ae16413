"""Label a folder by a few references, and again after corrections: five labels in, a folder out.

segic label photos/ --references labelme:/data/five --format labelme --output out/
segic label --output out/ --round 2 --corrected out/round-1/labels
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .checks import UsageError, count, is_url, need_files, need_folder, number
from .options import (
    FORMATS,
    AnyReference,
    add_model,
    add_references,
    build_predictor,
    check_model,
    check_references,
    renamed,
)
from .process import rest_waiting_threads

POLYGONS = ("coco", "cvat", "labelme", "yolo")  # formats that can have them
# as in the first round
MODEL = ("model", "config_file", "weights", "precision", "batch_size", "opts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic label``."""
    add = parser.add_argument
    places = "folders of pictures, or of another machine (s3://…, gs://…); of the first round"
    add("pictures", nargs="*", metavar="DIR", help=places)
    add_references(parser)
    add("--output", required=True, metavar="OUT", help="folder of the rounds; also s3://…")
    add("--format", choices=FORMATS, help="of the labels; default: coco")
    add("--rename", nargs="+", default=[], metavar="OLD=NEW", help="names of classes in the files")
    add("--instances", action="store_true", help="each object by itself")
    add("--min-score", type=number(0, 1), help="what has a lower score is left out")
    add(
        "--never-empty",
        action="store_true",
        help="every picture shows something: where nothing is found, it is the most doubtful",
    )
    add(
        "--tolerance",
        type=number(0),
        metavar="PX",
        help="between a mask and its polygon, at most; default: 1 in labelme and YOLO, exact masks "
        "in the other formats; 0: along the pixels",
    )
    add("--round", type=count, metavar="N", help="2 and on: label anew after corrections")
    add(
        "--corrected",
        metavar="NAME",
        action="append",
        help="what was corrected since: a folder or file in the format of the labels, or a name "
        "such as cvat:FOLDER",
    )
    add("--shots", type=count, default=5, help="corrected pictures of a class to learn from")
    add("--tune", action="store_true", help="also tune the decoder on them, and keep the better")
    add("--processes", type=count, default=1, metavar="N", help="that label at once")
    add("--ray", action="store_true", help="by N actors of Ray, here or on RAY_ADDRESS's cluster")
    add_model(parser)


def check(args: argparse.Namespace) -> list[AnyReference]:
    """The references of the arguments. UsageError or OSError: what can be wrong before anything is
    imported."""
    check_model(args)
    if not is_url(args.output):
        need_folder("--output", args.output)
    if args.round is not None and args.round > 1:
        first = bool(args.pictures or args.references or args.annotated or args.context)
        if (
            first
            or args.format
            or args.rename
            or args.instances
            or args.never_empty
            or args.min_score is not None
        ):
            raise UsageError(
                "--round: pictures, references, format, names and scores are those of round 1"
            )
        if args.tolerance is not None:
            raise UsageError("--tolerance is that of round 1")
        if args.corrected and len(args.corrected) > 1:
            raise UsageError("--corrected: give one file or folder, and others with the next round")
        return []
    if args.corrected or args.tune:
        raise UsageError("--corrected and --tune are of --round 2 and on")
    if not args.pictures:
        raise UsageError("give the folder of the pictures, or --round 2 and --corrected")
    args.format = args.format or "coco"
    if args.tolerance is not None and args.format not in POLYGONS:
        raise UsageError(f"--tolerance: --format {args.format} holds exact masks, no polygons")
    renamed(args)
    need_files("DIR", [p for p in args.pictures if not is_url(p)], folders=True)
    return check_references(args)


def run(args: argparse.Namespace) -> int:
    """Label a round and print what it came to; returns the exit status."""
    references = check(args)
    rest_waiting_threads()
    from segic_d2.engine.label import label_again, label_folder
    from segic_d2.engine.label.folder import Workers, asked_before

    workers = Workers(args.processes, args.ray)
    if args.round is not None and args.round > 1:
        _as_before(args, asked_before(args.output).get("about", {}))
        predictor = build_predictor(args, ())
        corrected = args.corrected[0] if args.corrected else None
        how: dict[str, Any] = {"number": args.round, "shots": args.shots, "tune": args.tune}
        report = label_again(predictor, args.output, corrected, **how, workers=workers)
    else:
        predictor = build_predictor(args, references)
        about = {name: _kept(getattr(args, name)) for name in MODEL}
        report = label_folder(
            predictor,
            args.pictures,
            args.output,
            args.format,
            instances=args.instances,
            min_score=args.min_score,
            never_empty=args.never_empty,
            tolerance=args.tolerance,
            names=renamed(args),
            workers=workers,
            about=about,
        )
    print(report)
    return 1 if report.unreadable else 0


def _as_before(args: argparse.Namespace, about: Mapping[str, Any]) -> None:
    """Set the options of the predictor as of round 1. UsageError: one is given otherwise."""
    parser = argparse.ArgumentParser()
    add_model(parser)
    for name in MODEL:
        given = _kept(getattr(args, name))
        before = about.get(name, given)
        if given not in (before, parser.get_default(name)):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"{option}: round 1 was labelled with {before!r}, all others are too")
        setattr(args, name, before)


def _kept(value: Any) -> Any:
    """A file as a path that means the same in another folder."""
    return (
        str(Path(value).absolute()) if isinstance(value, str) and Path(value).is_file() else value
    )
