"""Contexts over time, of one video: a bounded number of shots per entity."""

from collections import deque
from collections.abc import Collection

from .context import Context


class Memory:
    """The context that a video began with, whose shots are never forgotten, and the ``capacity``
    latest contexts of its frames; 0: none. ValueError: a negative capacity."""

    def __init__(self, first: Context, capacity: int = 0) -> None:
        if capacity < 0:
            raise ValueError(f"the capacity of a memory is {capacity}; it must be 0 or more")
        self.first = first
        self._written: deque[Context] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._written)

    def write(self, context: Context, absent: Collection[int] = ()) -> None:
        """Remember what a video frame showed, K shots each of the same entities in the same order;
        nothing of those that are ``absent``. ValueError: other entities than those of the first
        context, or another kind."""
        if context.ids != self.first.ids or context.kind != self.first.kind:
            raise ValueError(
                f"a context of {context.kind} of the entities {context.ids} does not go on with "
                f"{self.first.kind} of {self.first.ids}"
            )
        shown = context.shots.new_tensor([i not in absent for i in context.ids])
        kept = shown[:, None].expand_as(context.shots)
        self._written.append(context.take(range(len(context)), kept))

    def read(self) -> Context:
        """One context with the shots of the first and of all that is remembered."""
        return Context.join_shots([self.first, *self._written])
