"""The views of an image that training draws from (``INPUT.VIEWS_POOL``).

Without a pool the seeds of views follow from the episode's own seed. With a pool of V an image has
V views, whose seeds follow from its place in the dataset, and an episode tries them in its own
order. So other seeds, epochs and runs meet the same views again.
"""

from collections.abc import Iterator

from detectron2.config import CfgNode

from ..episodes import REFERENCE, TARGET, derive_seed, generator


class ViewPool:
    """Yields seeds of views, which an episode tries until a view shows its objects."""

    def __init__(self, cfg: CfgNode) -> None:
        self.size, self.attempts = cfg.INPUT.VIEWS_POOL, cfg.INPUT.MAX_REDRAWS + 1

    def seeds(self, image_index: int, seed: int) -> Iterator[int]:
        """Yield seeds of different views, at most 1 + ``INPUT.MAX_REDRAWS`` of them."""
        if not self.size:
            yield from (derive_seed(seed, attempt) for attempt in range(self.attempts))
            return
        for number in generator(seed).permutation(self.size)[: self.attempts]:
            yield derive_seed(image_index, int(number))

    def pairs(self, image_index: int, seed: int) -> Iterator[tuple[int, int]]:
        """Yield pairs of seeds, for target and reference. A pool gives pairs of different views."""
        if not self.size:
            for attempt in range(self.attempts):
                yield derive_seed(seed, TARGET, attempt), derive_seed(seed, REFERENCE, attempt)
            return
        order = generator(seed).permutation(self.size)
        for number in range(min(self.attempts, self.size)):
            pair = order[number], order[(number + 1) % self.size]
            yield tuple(derive_seed(image_index, int(view)) for view in pair)
