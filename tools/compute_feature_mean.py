#!/usr/bin/env python
"""Write a backbone's mean feature over a folder of pictures, for MODEL.SEGIC.SIMILARITY.MEAN.

    python tools/compute_feature_mean.py DIR mean.safetensors --config-file segic_demo.yaml

All pictures in DIR and below count alike. Masks do not count: N.png beside N.jpg, N_mask.png.
"""

import argparse
import sys
from pathlib import Path

from detectron2.modeling import build_model

from segic_d2.config.load import load_config
from segic_d2.io.formats import pictures_among
from segic_d2.modeling.segic.feature_mean import compute_feature_mean, save_feature_mean
from segic_d2.structures.picture import Picture


def pictures(folder):
    """Find picture files in a folder and below, sorted, without masks."""
    files = sorted(pictures_among(Path(folder).rglob("*")))
    photographs = {f.with_suffix("") for f in files if f.suffix.lower() != ".png"}
    return [
        f
        for f in files
        if f.suffix.lower() != ".png"
        or not (f.with_suffix("") in photographs or f.stem.endswith("_mask"))
    ]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("output", metavar="FILE", help="a .safetensors file")
    parser.add_argument("--config-file", default="segic_demo.yaml", help="shipped name or file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    args = parser.parse_args(argv)
    try:
        files = pictures(args.folder)
        model = build_model(
            load_config(args.config_file, ["MODEL.DEVICE", args.device, *args.opts])
        )
        views = (model.input.target(Picture(f)) for f in files)
        save_feature_mean(compute_feature_mean(model.eval(), views), args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.output}: mean over {len(files)} pictures")


if __name__ == "__main__":
    main()
