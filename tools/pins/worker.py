"""One process of a recording: it runs in the checkout, with the checkout's package and tests."""

import os
import sys
import traceback
from pathlib import Path

from . import toys
from .recording import Recording, machine


def work(job: dict) -> None:
    """Do one job and save its recording.

    Args:
        job: "kind" and its options, "checkout", "files" (for weights and outputs), "out", and
            "root" where miniatures are made first, in $DETECTRON2_DATASETS.

    Raises:
        RuntimeError: another segic_d2 than the checkout's is imported.
    """
    files, into, root = Path(job["files"]), Recording(), job.get("root")
    if root:
        data = Path(os.environ["DETECTRON2_DATASETS"])
        into.facts[f"miniatures {root}"] = toys.make_root(root, data)
    _settle(Path(job["checkout"]))
    for kind in job["kinds"]:
        try:
            _record(kind, job, files, into)
        except Exception as error:  # recorded, so that the other kinds are compared
            traceback.print_exc()
            line = str(error).strip().partition("\n")[0]
            into.failures[f"{kind} {root or ''}".strip()] = f"{type(error).__name__}: {line}"
    into.facts |= machine()
    into.save(job["out"])


def _record(kind: str, job: dict, files: Path, into: Recording) -> None:
    """One kind of part; its module imports the checkout's package."""
    cheap = job.get("cheap", False)
    if kind == "evaluations":
        from . import evaluations

        evaluations.record(job["root"], files, into)
    elif kind == "training":
        from . import training

        training.record(job["processes"], files, into, cheap)
    elif kind == "predictor":
        from . import prediction

        prediction.record(into, cheap)
    elif kind == "tensors":
        from . import tensors

        keys = Path(job["keys"]) if job.get("keys") else None
        tensors.record(Path(job["checkout"]), keys, into, cheap)


def _settle(checkout: Path) -> None:
    """One thread, and the right package."""
    import torch

    torch.set_num_threads(1)
    import segic_d2

    place = Path(segic_d2.__file__).resolve()
    if checkout.resolve() not in place.parents:
        raise RuntimeError(f"{place} is imported, not the package of {checkout}")
    print(f"segic_d2 of {place.parent}", file=sys.stderr)
