#!/usr/bin/env python
"""Writes the vectors of all texts that a training needs, so that it loads no text tower:

python tools/precompute_text.py --config-file configs/segic_dinov2_L.yaml --output text.safetensors
python train_net.py --config-file configs/segic_dinov2_L.yaml \\
    MODEL.SEGIC.TEXT.NAME table MODEL.SEGIC.TEXT.TABLE text.safetensors

A table that exists keeps its vectors; missing ones are added.
"""

import argparse
import sys

from segic_d2.config.load import load_config
from segic_d2.modeling import build_text_encoder
from text_table import config_datasets, extend_table, registered_datasets, texts_of

SHOWN = 10  # new texts and names of datasets that are printed


def get_parser():
    p = argparse.ArgumentParser(description=__doc__.split(":\n")[0])
    p.add_argument("--config-file", default="", help="a file or a shipped config")
    p.add_argument("--output", help="the table; default: MODEL.SEGIC.TEXT.TABLE")
    p.add_argument(
        "--datasets",
        nargs="+",
        help="whose class names; 'all': every registered one; default: those of the config",
    )
    p.add_argument("--extra", nargs="+", default=[], help="further texts, as they are")
    p.add_argument("--batch-size", type=int, default=256, help="texts encoded at once")
    p.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config KEY VALUE pairs")
    return p


def precompute(args):
    """Write the table and print what it holds.

    Raises:
        ValueError: there is no place for the table, the config has no encoder that computes, or a
            dataset or table cannot be used.
        ImportError: open_clip is missing.
        FileNotFoundError: open_clip's weights cannot be had.
    """
    cfg = load_config(args.config_file, args.opts)
    output = args.output or cfg.MODEL.SEGIC.TEXT.TABLE
    if not output:
        raise ValueError("give --output, or MODEL.SEGIC.TEXT.TABLE in the config")
    encoder_name = cfg.MODEL.SEGIC.TEXT.NAME
    if encoder_name in ("table", "none"):
        raise ValueError(
            f"MODEL.SEGIC.TEXT.NAME is {encoder_name!r}, which computes nothing: "
            "--opts MODEL.SEGIC.TEXT.NAME open_clip"
        )
    cfg.MODEL.SEGIC.META = True
    names = args.datasets or config_datasets(cfg)
    if names == ["all"]:
        names = registered_datasets()
    texts = texts_of(cfg, names, args.extra)
    total, new = extend_table(output, texts, build_text_encoder(cfg), args.batch_size)
    datasets = ", ".join(names) if len(names) <= SHOWN else f"{len(names)} datasets"
    print(f"{output}: {total} texts, {len(new)} new, for {datasets}")
    for text in new[:SHOWN]:
        print(f"  {text!r}")
    if len(new) > SHOWN:
        print(f"  and {len(new) - SHOWN} more, the last {new[-1]!r}")


def main(argv=None):
    """Write the table and print what was written; returns 1 after a line on failure."""
    args = get_parser().parse_args(argv)
    try:
        precompute(args)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
