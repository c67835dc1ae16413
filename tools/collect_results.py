#!/usr/bin/env python
"""Prints the paper's Tables 1 and 2 in Markdown, with our rows beside the published ones.

python tools/collect_results.py output/segic_L [output/segic_G …]

Each folder gives a row of its name, made of all results.json files below the folder. A cell is
empty if nothing was run for it, or if a published figure has not been checked.
"""

import argparse
import sys

from results.tables import collect, tables


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="output folders; one row each")
    args = parser.parse_args(arguments)
    try:
        found = tables([collect(folder) for folder in args.folders])
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    print(found)


if __name__ == "__main__":
    main()
