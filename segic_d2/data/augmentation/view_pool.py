"""The views of an image that training draws from (``INPUT.VIEWS_POOL``).

Without a pool every episode augments anew: the seeds of its views follow from its own seed. With a
pool of V an image has V views, whose seeds follow from its place in the dataset. An episode tries
them in an order of its own. So other seeds, epochs and runs meet the same views again.
"""

from ..episodes import REFERENCE, TARGET, derive_seed, generator


class ViewPool:
    """Yields seeds of views, which an episode tries until a view shows its objects.

    Args:
        cfg: config, of which ``INPUT.VIEWS_POOL`` and ``INPUT.MAX_REDRAWS`` count.

    Raises:
        ValueError: a negative size.
    """

    def __init__(self, cfg):
        self.size, self.attempts = cfg.INPUT.VIEWS_POOL, cfg.INPUT.MAX_REDRAWS + 1
        if self.size < 0:
            raise ValueError(f"INPUT.VIEWS_POOL is {self.size}; it must be 0 (no pool) or more")

    def seeds(self, image_index, seed):
        """Yield seeds of different views, at most 1 + ``INPUT.MAX_REDRAWS`` of them."""
        if not self.size:
            yield from (derive_seed(seed, attempt) for attempt in range(self.attempts))
            return
        for number in generator(seed).permutation(self.size)[: self.attempts]:
            yield derive_seed(image_index, int(number))

    def pairs(self, image_index, seed):
        """Yield pairs of seeds, for target and reference. A pool gives pairs of different views."""
        if not self.size:
            for attempt in range(self.attempts):
                yield derive_seed(seed, TARGET, attempt), derive_seed(seed, REFERENCE, attempt)
            return
        order = generator(seed).permutation(self.size)
        for number in range(min(self.attempts, self.size)):
            pair = order[number], order[(number + 1) % self.size]
            yield tuple(derive_seed(image_index, int(view)) for view in pair)
