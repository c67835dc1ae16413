#!/usr/bin/env python
"""Write the embedded dataset to a folder of your choice, or into the cache ahead of time.

python datasets/prepare_shapes.py [--output datasets/shapes] [--num-train 400] [--seed 0]
"""

import argparse

from segic_d2.data.datasets.shapes.register import SEED, SIZES, generate, shapes_root


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", help="a new folder; default: the cache, where it is looked for")
    for split, size in SIZES.items():
        parser.add_argument(f"--num-{split}", type=int, default=size, help="number of images")
    parser.add_argument("--seed", type=int, default=SEED)
    values = vars(parser.parse_args())
    output = values.pop("output")
    if output:
        generate(output, **values)
    print(output or shapes_root(**values))


if __name__ == "__main__":
    main()
