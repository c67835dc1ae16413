import pytest
import torch

from segic_d2.modeling.segic.queries import Queries
from tests.tiny import prototype_context


def context(entities=2, shots=3, seed=0, background=False, **changes):
    g = torch.Generator().manual_seed(seed)
    exists = torch.arange(shots) < torch.randint(1, shots + 1, (entities, 1), generator=g)
    made = prototype_context(
        torch.randn(entities, shots, 384, generator=g) * exists[..., None],
        torch.rand(entities, shots, 384, generator=g) * exists[..., None],
        exists,
        changes.get("meta", torch.randn(entities, 768, generator=g)),
        list(range(7, 7 + entities)),
        ["cat", None][:entities] + ["x"] * (entities - 2),
    )
    if background:
        made.tensors["background"] = torch.rand(entities, shots, 384, generator=g)
    return made


def test_queries_pad_shots_and_remember_the_image():
    queries = Queries.from_contexts([context(2, 1), context(1, 3, seed=1)])
    assert queries.image_index.tolist() == [0, 0, 1] and queries.counts == [2, 1]
    assert queries.prototypes.shape == (3, 3, 384) and len(queries) == 3
    assert not queries.shots[:2, 1:].any()
    with pytest.raises(ValueError, match="text vectors"):
        Queries.from_contexts([context(), context(meta=None)])


@pytest.mark.parametrize("background", [False, True])
def test_vectors_are_means_over_the_shots_that_exist(background):
    contexts = [context(3, 3, background=background), context(2, 2, 1, background=background)]
    vectors = Queries.from_contexts(contexts).vectors
    assert vectors.shape == (5, 1 + background, 384)
    rows = [(one, i) for one in contexts for i in range(len(one))]
    for got, (one, i) in zip(vectors, rows, strict=True):
        for v, name in enumerate(["unit_prototypes", "background"][: 1 + background]):
            kept = [x for x, there in zip(one.tensors[name][i], one.shots[i], strict=True) if there]
            torch.testing.assert_close(got[v], sum(kept) / len(kept))
