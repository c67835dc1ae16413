"""A disk on which no file can grow beyond a few bytes: writes fail half-way, by the system."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(size=64):
    """Every write beyond ``size`` bytes of a file is an OSError, as on a disk without space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
