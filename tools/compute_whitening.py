#!/usr/bin/env python
"""Write the statistics of a backbone's features over photographs, for
MODEL.SEGIC.REGIONS.WHITENING.

    python tools/compute_whitening.py DIR whitening.safetensors --config-file segic_region.yaml

Of all pictures in DIR and below, whole, each once and all their cells alike; masks do not count:
N.png beside N.jpg, N_mask.png. They are of the blocks that the propagated mask is made of.
"""

import argparse
import hashlib
import sys

from detectron2.modeling import build_model

from compute_feature_mean import pictures
from segic_d2.config.load import load_config
from segic_d2.io.pictures import read_image
from segic_d2.modeling.segic.regions.whitening import compute_statistics, save_statistics
from segic_d2.structures.picture import Picture


def different(files):
    """Pictures of files, each of the same pixels once."""
    known = set()
    for file in files:
        pixels = read_image(file)
        key = hashlib.sha256(pixels.tobytes()).digest()
        if key not in known:
            known.add(key)
            yield Picture(pixels)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].replace("\n", " "))
    parser.add_argument("folder", metavar="DIR")
    parser.add_argument("output", metavar="FILE", help="a .safetensors file")
    parser.add_argument("--config-file", default="segic_region.yaml", help="shipped name or file")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--opts", nargs="+", default=[], help="KEY VALUE pairs for the config")
    args = parser.parse_args(argv)
    own = ["MODEL.DEVICE", args.device, "MODEL.SEGIC.REGIONS.WHITENING", "", *args.opts]
    try:
        model = build_model(load_config(args.config_file, own)).eval()
        views = [model.input.target(p) for p in different(pictures(args.folder))]
        whitening = model.sem_seg_head.matcher.whitening
        found = compute_statistics(model, views, whitening.groups, whitening.channels)
        save_statistics(found, args.output)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.output}: statistics of {len(views)} pictures")


if __name__ == "__main__":
    main()
