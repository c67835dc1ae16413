"""What stays in float32 where the rest of a model runs in half precision."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from ...utils.devices import kinds

P = ParamSpec("P")
R = TypeVar("R")


def without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: inside, autocast is off, so that the precision of the arguments is kept.

    For what is cheap and loses by rounding to 8 or 11 bits: pooling, cosines, positions, losses.
    Where autocast is off anyway nothing changes.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with ExitStack() as stack:
            for device in kinds():
                if torch.is_autocast_enabled(device):
                    stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return wrapped
