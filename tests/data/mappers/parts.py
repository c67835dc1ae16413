"""How the tests of mappers build one, draw from it, and check what every episode keeps."""

import torch

from segic_d2.data.episodes import generator
from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from tests.data import toy


def mapper(name, dataset, **options):
    return EPISODE_MAPPER_REGISTRY.get(name)(toy.config(**options), Source(dataset))


def episodes(mapping, number):
    for seed in range(number):
        yield mapping({**mapping.draw(generator(seed)), "seed": seed})


def check(episode, canvas=56):
    """The contract that every training episode keeps."""
    count = len(episode["entities"])
    height, width = episode["image"].shape[1:]
    assert episode["image"].dtype == torch.uint8 and max(height, width) <= canvas
    assert episode["masks"].dtype == torch.bool
    assert episode["masks"].shape == (count, height, width)
    shown = set()
    for reference in episode["references"]:
        masks = reference["masks"]
        assert reference["image"].dtype == torch.uint8 and masks.dtype == torch.float32
        assert masks.shape == (len(reference["entity_ids"]), *reference["image"].shape[1:])
        assert 0 <= masks.min() and masks.max() <= 1 and (masks.sum((1, 2)) > 0).all()
        shown |= set(reference["entity_ids"])
    assert shown == {e["id"] for e in episode["entities"]}
