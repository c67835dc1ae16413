#!/usr/bin/env python
"""The paper's Table 1 and Table 2 in Markdown, our rows beside the published ones.

python tools/collect_results.py output/segic_L [output/segic_G …]

A row is made of each folder's results.json files (below it, at any depth); the row's name is the
folder's. A cell is empty where nothing was run, or where the figure has not been checked.
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
