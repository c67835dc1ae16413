"""Which corrected pictures become references."""

import numpy as np
import torch

from segic_d2.engine.label import corrections
from segic_d2.engine.label.corrections import as_references, joined_context
from segic_d2.io.rle import encode
from segic_d2.structures.context import PROTOTYPES, Context
from tests.engine.label.boxes import draw, tiny_predictor, write_pictures


def one_shot(vector, name="a", number=1):
    vector = torch.as_tensor(vector, dtype=torch.float32)
    shots = torch.ones(1, 1, dtype=torch.bool)
    return Context(PROTOTYPES, shots, {"prototypes": vector[None, None]}, None, [number], [name])


def test_far_apart_takes_what_is_least_like_what_is_there():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 5, generator=generator)
    contexts = [one_shot(v) for v in vectors]
    units = vectors / vectors.norm(dim=1, keepdim=True)
    chosen, known = [], [0]
    for _ in range(4):  # by hand
        rest = [i for i in range(1, 12) if i not in known]
        nearest = {i: max(float(units[i] @ units[j]) for j in known) for i in rest}
        known.append(min(nearest, key=nearest.get))
        chosen.append(known[-1] - 1)
    assert corrections._far_apart(contexts[:1], contexts[1:], 4) == chosen
    assert len(corrections._far_apart(contexts[:1], contexts[1:3], 5)) == 2
    assert corrections._far_apart(contexts[:1], [], 5) == []


def record(file, mask, name="box"):
    things = [[0, 1.0, encode(mask)["counts"]]]
    size = list(mask.shape)
    return {"file": str(file), "size": size, "names": [name], "things": things, "given": True}


def test_a_joined_context_has_the_first_shots_and_at_most_so_many_more(tmp_path):
    predictor = tiny_predictor(("box", "other"))
    folder = write_pictures(tmp_path / "in", 4)
    files = sorted(folder.iterdir())
    records = [record(file, draw(i)[1]) for i, file in enumerate(files)]
    first = predictor.context
    joined = joined_context(predictor, first, records, 3)
    assert (joined.ids, joined.names) == (first.ids, first.names)
    assert joined.shots.sum(1).tolist() == [4, 1]
    assert torch.equal(joined.tensors["prototypes"][:, :1], first.tensors["prototypes"][:, :1])
    own = predictor.encode_references([(files[0], draw(0)[1], "box")]).tensors["prototypes"][0, 0]
    found = joined.tensors["prototypes"][0, 1:]
    assert len(found) == 3 and joined.fingerprint == first.fingerprint
    everything = joined_context(predictor, first, records, 9).tensors["prototypes"][0]
    assert (everything - own).abs().amax(1).min() < 1e-6
    predictor.context = joined  # it is one that the model takes
    assert len(predictor(files[0], independent=True)) == 2


def test_what_shows_nothing_is_no_reference(tmp_path):
    folder = write_pictures(tmp_path / "in", 1)
    empty = {"file": str(folder / "0000.png"), "size": [60, 80], "names": ["box"], "things": []}
    with as_references([empty]) as found:
        assert found == []
    with as_references([record(folder / "0000.png", draw(0)[1])]) as found:
        ((file, masks, names),) = found
        assert np.array_equal(masks[0], draw(0)[1]) and names == ["box"] and file.endswith(".png")
