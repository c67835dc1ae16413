import pytest
import torch

from segic_d2.modeling.segic.queries import Queries
from segic_d2.structures.context import Context


def context(entities=2, shots=3, seed=0, **changes):
    g = torch.Generator().manual_seed(seed)
    exists = torch.arange(shots) < torch.randint(1, shots + 1, (entities, 1), generator=g)
    values = {
        "prototypes": torch.randn(entities, shots, 384, generator=g) * exists[..., None],
        "unit_prototypes": torch.rand(entities, shots, 384, generator=g) * exists[..., None],
        "shots": exists,
        "meta": torch.randn(entities, 768, generator=g),
        "ids": list(range(7, 7 + entities)),
        "names": ["cat", None][:entities] + ["x"] * (entities - 2),
        "task": "semantic",
        "fingerprint": {"backbone": "tiny", "canvas": 112, "text": None},
    }
    return Context(**{**values, **changes})


def test_queries_pad_shots_and_remember_the_image():
    queries = Queries.from_contexts([context(2, 1), context(1, 3, seed=1)])
    assert queries.image_index.tolist() == [0, 0, 1] and queries.counts == [2, 1]
    assert queries.prototypes.shape == (3, 3, 384)
    assert not queries.shots[:2, 1:].any()
    with pytest.raises(ValueError, match="text vectors"):
        Queries.from_contexts([context(), context(meta=None)])
