#!/usr/bin/env python
"""Convert a checkpoint of the released SegIC into a file for MODEL.WEIGHTS:

python tools/convert_official_checkpoint.py IN.pth OUT.safetensors \\
    [--config official/segic_dinov2_L.yaml]
"""

import argparse
import sys

from segic_d2.checkpoint.official import convert


def main(argv=None):
    """Run the command line; returns 0, or 1 after a line that says what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split(":\n")[0])
    parser.add_argument("source", metavar="IN", help="official .pth or .safetensors file")
    parser.add_argument("target", metavar="OUT.safetensors", help="the file to write")
    parser.add_argument(
        "--config", help="config of the model, a path or a shipped name; default: by its tensors"
    )
    args = parser.parse_args(argv)
    try:
        print(convert(args.source, args.target, args.config))
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
