"""Where files of this package lie on a user's machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$SEGIC_D2_CACHE``, or segic_d2's folder in ``$XDG_CACHE_HOME`` (default ``~/.cache``)."""
    if os.environ.get("SEGIC_D2_CACHE"):
        return Path(os.environ["SEGIC_D2_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segic_d2"
