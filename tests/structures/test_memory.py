import pytest
import torch

from segic_d2.structures.memory import Memory
from tests.structures.test_context import context


def test_the_first_context_stays_and_the_last_written_ones():
    first = context(2, 2)
    memory = Memory(first, capacity=2)
    assert memory.read() is first and len(memory) == 0
    written = [context(2, 1, seed=i) for i in (1, 2, 3)]
    for one in written:
        memory.write(one)
    found = memory.read()
    expected = [first, *written[1:]]
    assert len(memory) == 2 and found.shots.shape == (2, 4) and found.ids == first.ids
    for name, values in found.tensors.items():
        assert torch.equal(values, torch.cat([c.tensors[name] for c in expected], 1))


def test_nothing_is_written_of_what_is_absent():
    memory = Memory(context(2, 1), capacity=1)
    memory.write(context(2, 1, seed=1), absent=[8])
    assert memory.read().shots.tolist() == [[True, True], [True, False]]


def test_without_capacity_it_is_the_first_context():
    memory = Memory(context(2, 1))
    memory.write(context(2, 1, seed=1))
    assert memory.read().shots.shape == (2, 1)
    with pytest.raises(ValueError, match="capacity of a memory is -1"):
        Memory(context(), -1)


def test_other_entities_or_another_kind_do_not_go_on():
    memory = Memory(context(2, 1), capacity=1)
    for other in (context(1, 1), context(2, 1, kind="pixels")):
        with pytest.raises(ValueError, match="does not go on with prototypes of"):
            memory.write(other)
