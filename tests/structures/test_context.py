import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save

from segic_d2.structures.context import PROTOTYPES, WEIGHT, Context
from tests.full_disk import full_disk


def context(entities=2, shots=3, seed=0, **changes):
    g = torch.Generator().manual_seed(seed)
    exists = torch.arange(shots) < torch.randint(1, shots + 1, (entities, 1), generator=g)
    values = {
        "tensors": {
            "prototypes": torch.randn(entities, shots, 384, generator=g) * exists[..., None],
            "unit_prototypes": torch.rand(entities, shots, 384, generator=g) * exists[..., None],
        },
        "kind": PROTOTYPES,
        "shots": exists,
        "meta": torch.randn(entities, 768, generator=g),
        "ids": list(range(7, 7 + entities)),
        "names": ["cat", None][:entities] + ["x"] * (entities - 2),
        "task": "semantic",
        "fingerprint": {"backbone": "tiny", "canvas": 112, "text": None},
    }
    return Context(**{**values, **changes})


@pytest.mark.parametrize("meta", [True, False])
def test_a_saved_context_comes_back(tmp_path, meta):
    c = context(**({} if meta else {"meta": None}))
    c.save(tmp_path / "c.safetensors")
    back = Context.load(tmp_path / "c.safetensors")
    assert torch.equal(back.shots, c.shots) and back.tensors.keys() == c.tensors.keys()
    assert all(torch.equal(back.tensors[name], c.tensors[name]) for name in c.tensors)
    assert (back.meta is None) == (not meta) and (not meta or torch.equal(back.meta, c.meta))
    for name in ("kind", "ids", "names", "task", "fingerprint"):
        assert getattr(back, name) == getattr(c, name)


def test_a_saved_context_is_readable_by_whoever_may_read_new_files(tmp_path):
    context().save(tmp_path / "new" / "c.safetensors")  # in a folder that is not there yet
    (tmp_path / "plain").write_bytes(b"")
    modes = [(tmp_path / name).stat().st_mode for name in ("new/c.safetensors", "plain")]
    assert modes[0] == modes[1]


def test_a_saved_context_remembers_what_it_is_about(tmp_path):
    c = context(about={"files": [["a.jpg"], ["b.jpg", "c.jpg"]], "seed": 3})
    c.save(tmp_path / "c.safetensors")
    assert Context.load(tmp_path / "c.safetensors").about == c.about
    context().save(tmp_path / "c.safetensors")
    assert Context.load(tmp_path / "c.safetensors").about == {}


def test_a_full_disk_leaves_the_older_context(tmp_path):
    file = tmp_path / "context.safetensors"
    context().save(file)
    before = file.read_bytes()
    with full_disk(), pytest.raises(OSError, match=r"context\.safetensors"):
        context(entities=5).save(file)
    assert file.read_bytes() == before and os.listdir(tmp_path) == [file.name]


def test_some_entities_and_some_shots():
    c = context(3, 2, names=["a", "b", "c"])
    c.shots = torch.ones(3, 2, dtype=torch.bool)
    kept = torch.tensor([[True, False], [True, True], [False, True]])
    part = c.take([2, 0], kept)
    assert part.ids == [9, 7] and part.names == ["c", "a"] and len(part) == 2
    assert part.shots.tolist() == [[False, True], [True, False]]
    mean, units = part.mean_over_shots("unit_prototypes"), c.tensors["unit_prototypes"]
    torch.testing.assert_close(mean, torch.stack([units[2, 1], units[0, 0]]))
    assert torch.equal(part.meta, c.meta[[2, 0]]) and c.shots.all()
    assert len(c.take([])) == 0


def test_one_entity_takes_a_few_kilobytes(tmp_path):
    context(1, 1).save(tmp_path / "c.safetensors")
    assert os.path.getsize(tmp_path / "c.safetensors") < 8 * 1024


def test_a_file_that_is_no_context_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        Context.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="bad.safetensors is not a context"):
        Context.load(tmp_path / "bad.safetensors")


NAN = float("nan")
WRONG = {
    "NaN": ({"tensors": {"prototypes": torch.full((2, 3, 4), NAN)}}, "prototypes holds NaN"),
    "infinite": ({"tensors": {"x": torch.full((2, 3, 4), torch.inf)}}, "x holds NaN or infinity"),
    "NaN texts": ({"meta": torch.full((2, 768), NAN)}, "meta holds NaN"),
    "no shot": ({"shots": torch.zeros(2, 3, dtype=torch.bool)}, "an entity has no shot"),
    "one without": (
        {"shots": torch.tensor([[True, True, True], [False, False, False]])},
        "an entity has no shot",
    ),
    "numbers as shots": ({"shots": torch.ones(2, 3)}, "its shots are torch.float32"),
    "flat shots": ({"shots": torch.ones(2, dtype=torch.bool)}, "its shots are"),
    "fewer shots": ({"shots": torch.ones(2, 2, dtype=torch.bool)}, "prototypes is"),
    "flat tensor": ({"tensors": {"x": torch.ones(2)}}, "its tensor x is"),
    "flat texts": ({"meta": torch.ones(2)}, "not a context"),
    "fewer texts": ({"meta": torch.ones(1, 768)}, "its tensor meta is"),
    "text ids": ({"ids": ["7", "8"]}, "its ids are"),
    "true ids": ({"ids": [True, 2]}, "its ids are"),
    "an id twice": ({"ids": [7, 7]}, "its ids are"),
    "an id more": ({"ids": [7, 8, 9]}, "its names are|its shots are"),
    "no ids": ({"ids": []}, "its ids are"),
    "ids are a number": ({"ids": 7}, "not a context"),
    "number as name": ({"names": ["a", 5]}, "its names are"),
    "a name less": ({"names": ["a"]}, "its names are"),
    "task": ({"task": "evil"}, "its task 'evil'"),
    "kind": ({"kind": 5}, "its kind is 5"),
    "fingerprint": ({"fingerprint": [1]}, "its kind is"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_context_that_cannot_be_used_is_refused_by_name(tmp_path, kind):
    changes, message = WRONG[kind]
    file = tmp_path / "c.safetensors"
    replace(context(), **changes).save(file)
    with pytest.raises(ValueError, match=message) as error:
        Context.load(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_a_context_with_other_words_is_refused(tmp_path):
    c = context()
    for about in ('{"ids": ' + "[" * 100_000, "null", "[]", '{"evil": 1}'):
        data = save({"shots": c.shots, **c.tensors}, {"segic_d2.context": about})
        (tmp_path / "c.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match="c.safetensors is not a context file") as error:
            Context.load(tmp_path / "c.safetensors")
        assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_another_models_context_is_refused_with_every_difference():
    c = context()
    c.check({"backbone": "tiny", "canvas": 112, "text": None})
    with pytest.raises(ValueError) as e:
        c.check({"backbone": "big", "canvas": 896, "text": None})
    assert "backbone: context 'tiny', model 'big'" in str(e.value)
    assert "canvas: context 112, model 896" in str(e.value)


def test_shots_fuse_by_the_mean_over_those_that_exist():
    c = context(3, 3, seed=3)
    got, units = c.mean_over_shots("unit_prototypes"), c.tensors["unit_prototypes"]
    for n in range(3):
        shots = [k for k in range(3) if c.shots[n, k]]
        torch.testing.assert_close(got[n], sum(units[n, k] for k in shots) / len(shots))


def test_entities_of_several_contexts_are_joined():
    one, two = context(2, 1), context(1, 3, seed=1, ids=[3])
    both = Context.join_entities([one, two])
    assert both.ids == [7, 8, 3] and both.shots.shape == (3, 3) and not both.shots[:2, 1:].any()
    assert torch.equal(both.meta, torch.cat([one.meta, two.meta]))
    for name, values in both.tensors.items():
        assert torch.equal(values[:2, :1], one.tensors[name]) and not values[:2, 1:].any()
        assert torch.equal(values[2:], two.tensors[name])
    without = both.drop([8])
    assert without.ids == [7, 3] and torch.equal(without.meta, both.meta[[0, 2]])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"kind": "pixels"}, "contexts of another kind: 'prototypes' and 'pixels'"),
        ({"task": "instance"}, "contexts of another task"),
        ({"fingerprint": {"backbone": "other"}}, "contexts of another fingerprint"),
        ({"meta": None}, "some with and some without text vectors"),
        ({"ids": [8, 7]}, "contexts of another ids"),
    ],
)
def test_contexts_that_do_not_go_together_are_not_joined(changes, message):
    with pytest.raises(ValueError, match=message):
        Context.join_shots([context(), context(**changes)])
    if "ids" not in changes:
        with pytest.raises(ValueError, match=message):
            Context.join_entities([context(), context(**{"ids": [1, 2], **changes})])


def test_a_tuned_context_is_not_joined_to_one_of_other_tensors():
    own, name = context(), next(iter(context().tensors))
    renamed = {k if k != name else "other": v for k, v in own.tensors.items()}
    for tensors in (renamed, {**own.tensors, name: own.tensors[name].to(torch.uint8)}):
        for pair in ([own, context(tensors=tensors)], [context(tensors=tensors), own]):
            with pytest.raises(ValueError, match="contexts to be joined: tensors '.*' differ"):
                Context.join_shots(pair)


def test_joins_and_drops_name_the_entity_that_does_not_fit():
    with pytest.raises(ValueError, match=r"an id stands in two .*: \[7, 8, 7, 8\]"):
        Context.join_entities([context(), context()])
    with pytest.raises(ValueError, match=r"no entities \[77\]; the context has \[7, 8\]"):
        context().drop([77])
    with pytest.raises(ValueError, match="contexts to be joined: none"):
        Context.join_entities([])


def test_shots_of_several_contexts_are_joined():
    one, two = context(2, 2), context(2, 1, seed=1)
    both = Context.join_shots([one, two])
    assert both.ids == one.ids and torch.equal(both.shots, torch.cat([one.shots, two.shots], 1))
    for name, values in both.tensors.items():
        assert torch.equal(values, torch.cat([one.tensors[name], two.tensors[name]], 1))
    assert Context.join_shots([one]) is one


def test_entities_are_arranged_as_shots_of_others():
    c = context(3, 1)
    whole = c.arrange([1, 0, 1], [1, 0, 0], [20, 30], ["a", "b"])
    assert whole.ids == [20, 30] and whole.names == ["a", "b"]
    assert whole.shots.tolist() == [[True, False], [True, True]]
    values, own = whole.tensors["prototypes"], c.tensors["prototypes"][:, 0]
    assert torch.equal(values[0, 0], own[1]) and torch.equal(values[1], own[[2, 0]])
    assert torch.equal(whole.meta[0], c.meta[1]) and not values[0, 1].any()


def test_a_file_of_an_earlier_version_is_one_of_prototypes(tmp_path):
    c = context()
    about = {k: getattr(c, k) for k in ("ids", "names", "task", "fingerprint", "about")}
    data = save({"shots": c.shots, **c.tensors}, {"segic_d2.context": json.dumps(about)})
    (tmp_path / "old.safetensors").write_bytes(data)
    back = Context.load(tmp_path / "old.safetensors")
    assert back.kind == PROTOTYPES and torch.equal(back.shots, c.shots) and back.meta is None


def test_the_mean_over_shots_is_by_their_weight():
    c = context(1, 2)
    c.shots[:] = True
    c.tensors[WEIGHT] = torch.tensor([[0.2, 0.6]])
    first, second = c.tensors["prototypes"][0]
    found = c.mean_over_shots("prototypes")[0]
    torch.testing.assert_close(found, 0.25 * first + 0.75 * second)
