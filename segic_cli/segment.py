"""Segment pictures by example: references in, mask files and overlays out.

segic segment --reference cat.jpg cat.png cat --reference dog.jpg dog.png dog \\
    --input photo.jpg folder/ --output out/
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from .checks import (
    UsageError,
    count,
    need_files,
    need_folder,
    need_pairs,
    need_weights,
    number,
)
from .process import rest_waiting_threads

FORMATS = ("masks", "coco", "yolo", "labelme", "cvat", "labelstudio")
PRECISIONS = ("fp32", "bf16", "fp16")
ABSENT = 0.15  # MODEL.SEGIC.TEST.ABSENT of segic_demo.yaml

# (picture, mask file or prompt, names), as the predictor takes them
AnyReference: TypeAlias = tuple[str, Any, Any]


class _Reference(argparse.Action):
    """Appends (option, values), so that different kinds of references keep their order."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        namespace.references = [*namespace.references, (option_string, values)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``segic segment``."""
    parser.set_defaults(references=[])
    add = parser.add_argument
    reference: dict[str, Any] = {"action": _Reference, "nargs": "+", "dest": "references"}
    add(
        "--reference",
        **reference,
        metavar="FILE",
        help="IMAGE MASK [NAME]; repeat for more shots or entities. For a mask of several ids: "
        "one NAME per id, ascending, or ID=NAME …",
    )
    add(
        "--box",
        **reference,
        metavar="IMAGE",
        help="IMAGE X0 Y0 X1 Y1 [NAME], px: a reference whose mask is a box",
    )
    add(
        "--point",
        **reference,
        metavar="IMAGE",
        help="IMAGE X Y [NAME], px: a reference whose mask is found at a point",
    )
    add(
        "--references",
        dest="annotated",
        metavar="NAME",
        help="all that a labelling tool exported, such as labelme:FOLDER (docs/formats.md)",
    )
    places = "pictures, folders of pictures, or http(s) URLs"
    add("--input", nargs="+", required=True, metavar="PLACE", help=places)
    add("--output", required=True, help="folder for the results, made if it is missing")
    add("--config-file", default="segic_demo.yaml", help="a file or a shipped config")
    add("--weights", help="trained weights; default: MODEL.WEIGHTS of the config")
    add("--context", help="encoded references from --save-context, no --reference then")
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
    add("--device", help="default: the GPU if there is one")
    add("--precision", default="fp32", choices=PRECISIONS, help="of the pass over the pictures")
    add("--batch-size", type=count, default=4, help="pictures per pass")
    add("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config KEY VALUE pairs")


def reference(option: str, values: Sequence[str]) -> AnyReference:
    """The reference of one --reference, --box or --point. UsageError: values are missing, too many,
    or no numbers."""
    if option == "--reference":
        if len(values) < 2:
            raise UsageError(f"{option} {' '.join(values)}: expected IMAGE MASK [NAME …]")
        return values[0], values[1], _names(values[2:])
    letters = {"--box": "X0 Y0 X1 Y1", "--point": "X Y"}[option]
    number_of = len(letters.split())
    image, numbers, names = values[0], values[1 : 1 + number_of], values[1 + number_of :]
    wrong = f"{option} {' '.join(values)}: expected IMAGE {letters} [NAME], numbers in px"
    if len(numbers) < number_of or len(names) > 1:
        raise UsageError(wrong)
    try:
        place = [number()(x) for x in numbers]
    except ValueError as error:
        raise UsageError(wrong) from error
    prompt = {"points": [place]} if option == "--point" else {"box": place}
    if option == "--box" and not (place[0] < place[2] and place[1] < place[3]):
        raise UsageError(f"{wrong}, X0 < X1 and Y0 < Y1")
    return image, prompt, names[0] if names else None


def renamed(args: argparse.Namespace) -> dict[str, str]:
    """The names of --rename. UsageError: one is no OLD=NEW, or there is no --format."""
    pairs = [word.partition("=") for word in args.rename]
    if pairs and not args.format:
        raise UsageError("--rename is of the files of --format")
    if wrong := [word for word, pair in zip(args.rename, pairs, strict=True) if not all(pair)]:
        raise UsageError(f"--rename {wrong[0]}: expected OLD=NEW")
    return {old: new for old, _, new in pairs}


def _names(names: Sequence[str]) -> Any:
    ids = [name.partition("=") for name in names]
    if names and all(i.isdigit() and equals for i, equals, _ in ids):
        return {int(i): name for i, _, name in ids}
    return names[0] if len(names) == 1 else list(names) or None


def check(args: argparse.Namespace) -> list[AnyReference]:
    """The references of the arguments. UsageError or OSError: what can be wrong before anything is
    imported."""
    given = [bool(args.references), bool(args.annotated), bool(args.context)]
    if sum(given) != 1:
        raise UsageError(
            "give either --reference (one or more; or --box, --point), --references or --context"
        )
    renamed(args)
    need_pairs(args.opts)
    references = [reference(option, values) for option, values in args.references]
    for (option, _), (image, mask, _) in zip(args.references, references, strict=True):
        need_files(option, [image, mask] if isinstance(mask, str) else [image], web=True)
    need_files("--input", args.input, folders=True, web=True)
    need_files("--context", [args.context] if args.context else [])
    need_weights(args.weights)
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
    from segic_d2.predictor import InContextPredictor

    if args.format:
        need_free(args.format, args.output)
    pictures = list_pictures(args.input, leave_out=args.output)
    predictor = InContextPredictor(
        args.config_file, args.weights, args.device, args.precision, args.batch_size, args.opts
    )
    if args.context:
        predictor.load_context(args.context)
    else:
        shown = args.annotated or references
        predictor.set_references(shown, "instance" if args.instances else "semantic")
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
