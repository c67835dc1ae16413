"""How the process of a command behaves, unlike one of Python code that is somebody else's."""

import os
import sys
import warnings


def hide_warnings() -> None:
    """Leave out what libraries say to programmers, unless Python was told otherwise (``-W``)."""
    if not sys.warnoptions:
        for category in (FutureWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "torch.meshgrid")


def rest_waiting_threads() -> None:
    """Let torch's threads sleep while they wait for work; by default they spin, which on a busy
    machine takes as much time again. It must be said before torch is imported."""
    if "torch" not in sys.modules:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
