"""Prints SegIC, SegGPT and Painter beside published rows, for every benchmark that runs here.

python tools/results [SegIC=output/segic_L SegGPT=output/seggpt …]

Published rows have the number of their source at each figure. Ours are made of the results.json
files below the folders, by NAME=FOLDER, or by the folder's own name; a cell is empty where nothing
was run. 56.1/67.9 are 1-shot and 5-shot.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results.tables import collect, peers  # noqa: E402


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="results", description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="NAME=FOLDER", help="our rows")
    given = []
    try:
        for row in parser.parse_args(arguments).rows:
            name, _, folder = row.rpartition("=")
            found, results = collect(folder)
            given.append((name or found, results))
        print(peers(given))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
