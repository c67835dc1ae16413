"""Prepare the embedded weights in the user's cache; see segic_d2/modeling/backbone/embedded.py."""

import sys

from segic_d2.modeling.backbone.embedded import main

if __name__ == "__main__":
    sys.exit(main())
