#!/usr/bin/env python
"""Segments pictures by example: references with masks in, mask files and overlays out.

python demo/demo.py --reference cat.jpg cat.png cat --reference dog.jpg dog.png dog \\
    --input photo.jpg folder/ --output out/
"""

import argparse
import sys

from tqdm import tqdm

from segic_d2.config import load_config
from segic_d2.io.names import distinct_stems, list_pictures
from segic_d2.io.writer import PredictionWriter
from segic_d2.predictor import PRECISIONS, InContextPredictor


def parser():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument(
        "--reference",
        action="append",
        nargs="+",
        default=[],
        metavar="FILE",
        help="IMAGE MASK [NAME]; repeat for more shots or entities. For a mask of several ids: "
        "one NAME per id, ascending, or ID=NAME …",
    )
    p.add_argument(
        "--input", nargs="+", required=True, help="pictures, http(s) URLs, or folders of pictures"
    )
    p.add_argument("--output", required=True, help="folder for the results, made if it is missing")
    p.add_argument("--config-file", default="segic_demo.yaml", help="a file or a shipped config")
    p.add_argument("--weights", help="trained weights; default: MODEL.WEIGHTS of the config")
    p.add_argument("--context", help="encoded references from --save-context, no --reference then")
    p.add_argument("--save-context", help="write the encoded references to this .safetensors file")
    p.add_argument("--merge", action="store_true", help="also one palette PNG of all entities")
    p.add_argument(
        "--threshold",
        type=float,
        help="higher: less; MODEL.SEGIC.REGIONS.THRESHOLD where regions are chosen, else "
        "MODEL.SEGIC.TEST.THRESHOLD; default: the config's",
    )
    p.add_argument("--device", help="default: the GPU if there is one")
    p.add_argument("--precision", default="fp32", choices=list(PRECISIONS))
    p.add_argument("--batch-size", type=int, default=4, help="pictures per pass")
    p.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config KEY VALUE pairs")
    return p


def reference(values):
    """(image, mask, names) from the values of one --reference."""
    if len(values) < 2:
        raise ValueError(f"--reference {' '.join(values)}: expected IMAGE MASK [NAME …]")
    image, mask, *names = values
    ids = [name.partition("=") for name in names]
    if names and all(i.isdigit() and equals for i, equals, _ in ids):
        return image, mask, {int(i): name for i, _, name in ids}
    return image, mask, names[0] if len(names) == 1 else names or None


def run(args):
    """Segment and write. Returns [(picture, error)] of the pictures that could not be read."""
    if bool(args.reference) == bool(args.context):
        raise ValueError("give either --reference (one or more) or --context")
    references = [reference(values) for values in args.reference]
    pictures = list_pictures(args.input, leave_out=args.output)
    opts = list(args.opts)
    if args.threshold is not None:
        head = load_config(args.config_file, opts).MODEL.SEM_SEG_HEAD.NAME
        part = "REGIONS" if head == "RegionMatchingHead" else "TEST"
        opts += [f"MODEL.SEGIC.{part}.THRESHOLD", args.threshold]
    predictor = InContextPredictor(
        args.config_file, args.weights, args.device, args.precision, args.batch_size, opts
    )
    if args.context:
        predictor.load_context(args.context)
    else:
        predictor.set_references(references)
    if args.save_context:
        predictor.save_context(args.save_context)

    failed = []
    stems = dict(zip(map(str, pictures), distinct_stems(pictures), strict=True))
    writer = PredictionWriter(args.output, args.merge)
    with tqdm(total=len(pictures), unit="picture") as bar:

        def skip(picture, error):
            failed.append((picture, error))
            bar.update()

        for result in predictor.predict(pictures, on_error=skip, progress=False):
            writer.write(result, stems[result.file_name])
            bar.update()
    return failed


def main(argv=None):
    """Returns the exit status: 0, or 1 where a picture failed or an argument was wrong."""
    args = parser().parse_args(argv)
    try:
        failed = run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for _, error in failed:
        print(f"failed: {error}", file=sys.stderr)
    print(f"results in {args.output}" + (f", {len(failed)} pictures failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
