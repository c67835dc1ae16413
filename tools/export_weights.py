#!/usr/bin/env python
"""Write the trained part of a checkpoint as half-precision safetensors, for segic_d2/weights.

    python tools/export_weights.py output/model_final.pth segic_d2/weights/segic-demo.safetensors

--average takes the moving average (MODEL_EMA), which a checkpoint on the way holds too. The script
prints the file's size and its SHA-256, which goes into segic_d2/checkpoint/pretrained.py.
"""

import argparse
import hashlib
import sys

import torch
from safetensors.torch import save

from segic_d2.utils.files import write_whole


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", metavar="FILE.pth")
    parser.add_argument("output", metavar="FILE.safetensors")
    parser.add_argument("--average", action="store_true", help="the average in place of weights")
    args = parser.parse_args(argv)
    try:
        loaded = torch.load(args.checkpoint, map_location="cpu", weights_only=True)
        state = loaded["model"]
    except (OSError, KeyError, RuntimeError) as error:
        sys.exit(f"error: {args.checkpoint} is no checkpoint: {error}")
    if args.average:
        hooks = loaded.get("trainer", {}).get("hooks", {})
        if "AverageHook" not in hooks:
            sys.exit(f"error: {args.checkpoint} has no average; MODEL_EMA.ENABLED makes it")
        state = {**state, **hooks["AverageHook"]["average"]}
    tensors = {
        name: tensor.half().contiguous()
        for name, tensor in sorted(state.items())
        if name.startswith("sem_seg_head.")
    }
    lost = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if lost:
        sys.exit(f"error: {lost[0]} does not fit half precision")
    data = save(tensors)
    write_whole(args.output, data)
    numbers = sum(tensor.numel() for tensor in tensors.values())
    digest = hashlib.sha256(data).hexdigest()
    print(f"{args.output}: {numbers:,} numbers, {len(data) / 1e6:.2f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
