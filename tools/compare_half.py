#!/usr/bin/env python
"""How features change when a backbone's weights are kept in half precision.

    python tools/compare_half.py PICTURE …  [--config-file segic_stamps_S.yaml] [--save FILE]

For every block of MODEL.TIMM.BLOCKS the distance of the features is printed, ‖a − b‖ / ‖b‖, b being
of the weights as they are: the mean over the pictures, and the most. --save keeps the half.
"""

import argparse
import sys
from pathlib import Path

import torch
from detectron2.modeling import build_model
from safetensors.torch import load_file, save
from torch.linalg import vector_norm

from segic_d2.config.load import load_config
from segic_d2.io.pictures import read_image
from segic_d2.modeling.backbone.embedded import embedded_weights
from segic_d2.structures.picture import Picture
from segic_d2.utils.files import write_whole


def write_half(tensors, path):
    """Write tensors, {name: tensor}, as half-precision safetensors.

    Raises:
        ValueError: naming a tensor that does not fit.
    """
    half = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    for name, tensor in half.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} does not fit half precision")
    write_whole(path, save(half))


def changes(cfg, half, pictures):
    """Distances of the features, float (pictures, blocks), with a file's weights in place of those
    of ``cfg.MODEL.BACKBONE.WEIGHTS``.

    Args:
        cfg: config of a frozen timm backbone.
        half: path of a file for ``MODEL.BACKBONE.WEIGHTS``.
        pictures: list of paths.
    """
    changed = cfg.clone()
    changed.defrost()
    changed.MODEL.BACKBONE.WEIGHTS = str(half)
    whole, other = (build_model(c).encoder.eval() for c in (cfg, changed))
    blocks, rows = len(cfg.MODEL.TIMM.BLOCKS), []
    for path in pictures:
        view = whole.input.target(Picture(read_image(path)))["image"]
        with torch.no_grad():
            b, a = (encoder([view]).map[0].chunk(blocks) for encoder in (whole, other))
        rows.append([float(vector_norm(x - y) / vector_norm(y)) for x, y in zip(a, b, strict=True)])
    return torch.tensor(rows)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    parser.add_argument("--config-file", default="segic_stamps_S.yaml", help="shipped name or file")
    parser.add_argument("--save", type=Path, default=Path("output/backbone_half.safetensors"))
    args = parser.parse_args(argv)
    try:
        cfg = load_config(args.config_file, ["MODEL.DEVICE", "cpu"])
        write_half(load_file(embedded_weights()), args.save)
        found = changes(cfg, args.save, args.pictures)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(f"{args.save}: {args.save.stat().st_size / 1e6:.1f} MB, {len(found)} pictures")
    for block, column in zip(cfg.MODEL.TIMM.BLOCKS, found.T, strict=True):
        print(f"block {block}: {column.mean():.2e} on average, {column.max():.2e} at most")


if __name__ == "__main__":
    main()
