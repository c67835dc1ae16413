"""What stays in float32 where the rest of a model runs in half precision."""

from contextlib import ExitStack
from functools import wraps

import torch

from ...utils.devices import kinds


def without_autocast(function):
    """Decorator: inside, autocast is off, so that the precision of the arguments is kept.

    For what is cheap and loses by rounding to 8 or 11 bits: pooling, cosines, positions, losses.
    Where autocast is off anyway nothing changes.
    """

    @wraps(function)
    def wrapped(*args, **kwargs):
        with ExitStack() as stack:
            for device in kinds():
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return wrapped
