"""What all processes of a run must have alike, on whichever machines they are."""

from collections.abc import Mapping

from detectron2.utils import comm


def require_alike(values: Mapping[str, object]) -> None:
    """Compare values of all processes as text; each gives the same names. ValueError in every
    process: one has another value than process 0, and both are named."""
    first, *others = comm.all_gather({name: str(value) for name, value in values.items()})
    for rank, own in enumerate(others, 1):
        for name, value in own.items():
            if value != first[name]:
                raise ValueError(
                    f"{name} is {first[name]} in process 0, and {value} in process {rank}: it must "
                    "be the same on all machines"
                )
