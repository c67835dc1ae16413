"""Segment pictures by example: references in, mask files and overlays out.

segic segment --reference cat.jpg cat.png cat --reference dog.jpg dog.png dog \\
    --input photo.jpg folder/ --output out/
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .checks import UsageError, need_files, need_folder, number
from .options import (
    ABSENT,
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic segment``."""
    add_references(parser)
    add = parser.add_argument
    places = "pictures, folders of pictures, or http(s) URLs"
    add("--input", nargs="+", required=True, metavar="PLACE", help=places)
    add("--output", required=True, help="folder for the results, made if it is missing")
    add_model(parser)
    add("--save-context", help="write the encoded references to this .safetensors file")
    add("--merge", action="store_true", help="also one palette PNG of all entities")
    add(
        "--format",
        choices=FORMATS,
        help="write one folder for a labelling tool or for training in place of mask files",
    )
    add(
        "--rename",
        nargs="+",
        default=[],
        metavar="OLD=NEW",
        help="names of classes in the files of --format",
    )
    add("--instances", action="store_true", help="each object by itself: 24 coins are 24 masks")
    add(
        "--independent",
        action="store_true",
        help="a mask of every entity in every picture; without it each pixel goes to one entity, "
        "and those that are absent are left out",
    )
    add(
        "--threshold",
        type=number(),
        default=0.0,
        help="added to the mask threshold of the model, in logits; default: 0; above 0 less of the "
        "picture is marked. Scores stay as they are",
    )
    add(
        "--min-score",
        type=number(0, 1),
        help="what has a lower score is left out; default: MODEL.SEGIC.TEST.ABSENT of the config, "
        f"{ABSENT:g} in segic_demo.yaml, and 0 with --independent",
    )


def check(args: argparse.Namespace) -> list[AnyReference]:
    """The references of the arguments. UsageError or OSError: what can be wrong before anything is
    imported."""
    renamed(args)
    check_model(args)
    references = check_references(args)
    need_files("--input", args.input, folders=True, web=True)
    need_folder("--output", args.output)
    if args.save_context:
        if not args.save_context.endswith(".safetensors"):
            raise UsageError(f"--save-context {args.save_context}: it must end in .safetensors")
        need_folder("--save-context", Path(args.save_context).parent)
    return references


def run(args: argparse.Namespace) -> int:
    """Segment and write; returns the exit status."""
    references = check(args)
    rest_waiting_threads()
    failed = _segment(args, references)
    for error in failed:
        print(f"failed: {error}", file=sys.stderr)
    print(f"results in {args.output}" + (f", {len(failed)} pictures failed" if failed else ""))
    return 1 if failed else 0


def _segment(args: argparse.Namespace, references: Sequence[AnyReference]) -> list[Exception]:
    """Write the results of all pictures that can be read; returns the errors of the others."""
    from tqdm import tqdm

    from segic_d2.io.annotations import need_free, write_annotations
    from segic_d2.io.names import distinct_stems, list_pictures
    from segic_d2.io.writer import PredictionWriter, file_label

    if args.format:
        need_free(args.format, args.output)
    pictures = list_pictures(args.input, leave_out=args.output)
    predictor = build_predictor(args, references)
    if args.save_context:
        predictor.save_context(args.save_context)

    failed: list[Exception] = []
    found: list[Any] = []
    stems = dict(zip(map(str, pictures), distinct_stems(pictures), strict=True))
    given = [x for image, mask, _ in references for x in (image, mask) if isinstance(x, str)]
    if args.annotated:  # what a tool keeps there
        given += map(str, Path(args.output).glob("*"))
    writer = PredictionWriter(args.output, args.merge, keep=[*given, *map(str, pictures)])
    how = {name: True for name in ("instances", "independent") if getattr(args, name)}
    with tqdm(total=len(pictures), unit="picture", disable=None) as bar:  # None: on a terminal

        def skip(picture: object, error: Exception) -> None:
            failed.append(error)
            bar.update()

        labels = {i: file_label(i, name) for i, name in predictor.entities.items()}
        results = predictor.predict(
            pictures, on_error=skip, min_score=args.min_score, progress=False, **how
        )
        for result in results:
            if args.threshold:  # the result's, whatever the model calls its own
                level = result.threshold + args.threshold
                result = dataclasses.replace(result, threshold=level)
                if args.instances or not args.independent:  # what has no pixel now is left out
                    result = result.take([i for i, area in enumerate(result.areas) if area])
            if args.format:
                found.append(result.to_annotated())
            else:
                missing = [own for i, own in labels.items() if i not in result.ids]
                writer.write(result, stems[result.file_name], () if args.instances else missing)
            bar.update()
    if args.format:
        write_annotations(args.format, found, args.output, renamed(args))
    return failed
