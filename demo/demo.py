#!/usr/bin/env python
"""``segic segment`` under its old name: references with masks in, mask files and overlays out.

python demo/demo.py --reference cat.jpg cat.png cat --reference dog.jpg dog.png dog \\
    --input photo.jpg folder/ --output out/
"""

import sys
from collections.abc import Sequence

from segic_cli.main import main as segic


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of ``segic segment``."""
    return segic(["segment", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
