"""Options that several commands share: references, the model, and names of classes."""

import argparse
from collections.abc import Sequence
from typing import Any, TypeAlias

from .checks import UsageError, count, need_files, need_pairs, need_weights, number

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


def add_references(parser: argparse.ArgumentParser) -> None:
    """Add --reference, --box, --point, --references and --context."""
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
    add("--context", help="encoded references from --save-context, no --reference then")


def add_model(parser: argparse.ArgumentParser, unit: str = "pictures") -> None:
    """Add the options of the predictor, whose passes are over ``unit``."""
    add = parser.add_argument
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model",
        metavar="NAME",
        help="a model by its name: one that ships, such as segic-demo; one whose weights were "
        "released, with --weights; or a shipped config without its ending",
    )
    which.add_argument(
        "--config-file", default="segic_demo.yaml", help="a file or a shipped config"
    )
    add("--weights", help="trained weights; default: MODEL.WEIGHTS of the config")
    add("--device", help="default: the GPU if there is one")
    add("--precision", default="fp32", choices=PRECISIONS, help=f"of the pass over the {unit}")
    add("--batch-size", type=count, default=4, help=f"{unit} per pass")
    add("--opts", nargs="*", default=[], metavar="KEY VALUE", help="config KEY VALUE pairs")


def check_references(args: argparse.Namespace) -> list[AnyReference]:
    """The references of the arguments. UsageError or OSError: what can be wrong before anything is
    imported."""
    given = [bool(args.references), bool(args.annotated), bool(args.context)]
    if sum(given) != 1:
        raise UsageError(
            "give either --reference (one or more; or --box, --point), --references or --context"
        )
    references = [reference(option, values) for option, values in args.references]
    for (option, _), (image, mask, _) in zip(args.references, references, strict=True):
        need_files(option, [image, mask] if isinstance(mask, str) else [image], web=True)
    need_files("--context", [args.context] if args.context else [])
    return _joined(references)


def _joined(references: Sequence[AnyReference]) -> list[AnyReference]:
    """Points of one picture and name as one reference: of two, each would be the other's
    background."""
    found: list[AnyReference] = []
    points: dict[tuple[str, Any], Any] = {}
    for image, mask, names in references:
        if not isinstance(mask, dict) or "points" not in mask:
            found.append((image, mask, names))
        elif (image, names) in points:
            points[image, names].extend(mask["points"])
        else:
            points[image, names] = list(mask["points"])
            found.append((image, {"points": points[image, names]}, names))
    return found


def check_model(args: argparse.Namespace) -> None:
    """UsageError or OSError: what can be wrong about the options of ``add_model``."""
    need_pairs(args.opts)
    need_weights(args.weights)


def new_predictor(args: argparse.Namespace) -> Any:
    """The predictor of the options of ``add_model``."""
    from segic_d2.checkpoint.pretrained import find_model
    from segic_d2.predictor import InContextPredictor

    config, weights = args.config_file, args.weights
    if args.model:
        config, weights = find_model(args.model, weights)
    return InContextPredictor(
        config, weights, args.device, args.precision, args.batch_size, args.opts
    )


def build_predictor(args: argparse.Namespace, references: Sequence[AnyReference]) -> Any:
    """The predictor of the arguments, with their references."""
    predictor = new_predictor(args)
    if args.context:
        predictor.load_context(args.context)
    elif args.annotated or references:
        shown = args.annotated or references
        predictor.set_references(shown, "instance" if args.instances else "semantic")
    return predictor


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
