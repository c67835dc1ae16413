"""Every kind of memory against a slow, obvious reference."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from segic_d2.structures.context import CELLS, COUNTS, PARTS, TOKEN, WEIGHT
from segic_d2.structures.memory import Memory, MemoryOptions, merge_parts
from tests.structures.test_context import context

NAMES = "prototypes", "unit_prototypes"
OPEN = {"gate": 0.0, "trust": 0.0, "every": 1}


def given_memory(kind, ids=(7, 8), own=0.5, iou=0.9, **options):
    """A memory of two objects that were given, and what was given; 7 has two shots, 8 one."""
    memory = Memory(MemoryOptions(kind, **options))
    given = context(2, 3, seed=4).take([i - 7 for i in ids])
    memory.give(given, dict.fromkeys(ids, own), dict.fromkeys(ids, iou))
    return memory, given


def written(memory, count, seed=10, score=0.5):
    """Contexts of one shot each of so many frames, all of which were offered to a memory."""
    frames = [context(2, 1, seed=seed + n) for n in range(count)]
    for frame in frames:
        scores = dict.fromkeys((7, 8), score)
        if due := memory.due(scores):
            memory.write(frame.take([i - 7 for i in due]), scores)
    return frames


def mean_of(c, row, name):
    """The mean over the shots of an entity, one by one."""
    shots = [c.tensors[name][row, k] for k in range(c.shots.shape[1]) if c.shots[row, k]]
    return sum(shots) / len(shots)


def test_first_remembers_what_was_given_and_nothing_else():
    memory, given = given_memory("first", **OPEN)
    written(memory, 20)
    read = memory.read()
    assert read.ids == [7, 8] and not {WEIGHT, TOKEN} & set(read.tensors)
    most = int(given.shots.sum(1).max())
    assert torch.equal(read.shots, given.shots[:, :most])
    for name in NAMES:
        assert torch.equal(read.tensors[name], given.tensors[name][:, :most])


@pytest.mark.parametrize("use", [("map",), ("map", "tokens"), ("tokens",)])
def test_fifo_means_the_latest_shots_by_their_scores(use):
    memory, given = given_memory("fifo", size=3, given_weight=0.25, use=use, **OPEN)
    frames, scores = [context(2, 1, seed=n) for n in range(5)], [0.9, 0.1, 0.2, 0.3, 0.6]
    for frame, score in zip(frames, scores, strict=True):
        assert memory.due({7: score, 8: score}) == [7, 8]
        memory.write(frame, {7: score, 8: score})
    read = memory.read()
    for row in range(2):
        own = mean_of(given, row, "unit_prototypes")
        later = [f.tensors["unit_prototypes"][row, 0] for f in frames[2:]]
        late = sum(s * v for s, v in zip(scores[2:], later, strict=True)) / sum(scores[2:])
        expected = 0.25 * own + 0.75 * late if "map" in use else own
        torch.testing.assert_close(read.mean_over_shots("unit_prototypes")[row], expected)
        tokens = (read.shots & (read.tensors[TOKEN] > 0))[row]
        shown = read.tensors["prototypes"][row][tokens]
        expected = given.tensors["prototypes"][row][given.shots[row]]
        if "tokens" in use:
            recent = torch.stack([f.tensors["prototypes"][row, 0] for f in frames[2:]])
            expected = torch.cat([expected, recent])
        assert torch.equal(shown, expected)


def test_fifo_writes_every_so_many_frames():
    memory, _ = given_memory("fifo", size=2, gate=0, trust=0, every=3)
    frames = written(memory, 11)
    kept = [shot.tensors["prototypes"][0, 0] for shot in memory[7].recent]
    expected = [frames[n].tensors["prototypes"][0, 0] for n in (5, 8)]
    assert len(kept) == 2 and all(map(torch.equal, kept, expected))


def test_mean_runs_from_what_was_given():
    memory, given = given_memory("mean", rate=0.25, **OPEN)
    frames = written(memory, 4)
    read = memory.read()
    for row in range(2):
        mean = own = mean_of(given, row, "unit_prototypes")
        for frame in frames:
            mean = 0.75 * mean + 0.25 * frame.tensors["unit_prototypes"][row, 0]
        found = read.mean_over_shots("unit_prototypes")[row]
        torch.testing.assert_close(found, 0.5 * own + 0.5 * mean)
    assert all(len(memory[i].recent) == 1 for i in memory.ids)


def test_last_is_the_given_and_the_last_shot():
    memory, given = given_memory("last", use=("tokens",), **OPEN)
    frames = written(memory, 3)
    read = memory.read()
    for row in range(2):
        torch.testing.assert_close(
            read.mean_over_shots("unit_prototypes")[row], mean_of(given, row, "unit_prototypes")
        )
        exists = (read.shots & (read.tensors[TOKEN] > 0))[row]
        last = read.tensors["prototypes"][row][exists][-1]
        assert torch.equal(last, frames[-1].tensors["prototypes"][row, 0])


def with_parts(c, seed, count=3):
    g = torch.Generator().manual_seed(seed)
    parts = torch.randn(len(c), 1, count, 8, generator=g)
    counts = torch.randint(0, 5, (len(c), 1, count), generator=g).float()
    return replace(c, tensors={**c.tensors, PARTS: parts, COUNTS: counts})


def slow_clusters(points, most):
    """Online k-means of (vector, cells), one point after the other."""
    centres, counts = [], []
    for vector, cells in points:
        if not cells:
            continue
        if len(centres) < most:
            centres.append(vector.clone())
            counts.append(cells)
            continue
        cosines = [float(F.cosine_similarity(c, vector, dim=0)) for c in centres]
        best = cosines.index(max(cosines))
        counts[best] += cells
        centres[best] = centres[best] + (vector - centres[best]) * cells / counts[best]
    return centres, counts


def test_clusters_are_means_of_parts():
    memory = Memory(MemoryOptions("clusters", size=3, **OPEN))
    given = context(2, 3, seed=4)
    seen = with_parts(context(2, 1), 0)
    memory.give(given, {7: 0.5, 8: 0.5}, {7: 1.0, 8: 1.0}, seen)
    frames = [with_parts(context(2, 1, seed=n), n) for n in (1, 2, 3)]
    for frame in frames:
        memory.write(frame, {7: 0.5, 8: 0.5})
    read = memory.read()
    for row in range(2):
        # what was given keeps its places, free ones among them
        vectors, cells = (seen.tensors[k][row, 0] for k in (PARTS, COUNTS))
        points = [(v, float(n)) for v, n in zip(vectors, cells, strict=True) if n]
        for frame in frames:
            own = zip(*(frame.tensors[k][row, 0] for k in (PARTS, COUNTS)), strict=True)
            points += [(v, float(n)) for v, n in own]
        centres, counts = slow_clusters(points, 3)
        parts, found = read.tensors[PARTS][row, 0], read.tensors[COUNTS][row, 0]
        assert sorted(found.tolist()) == sorted(counts)
        for centre, count in zip(centres, counts, strict=True):
            assert any(torch.allclose(centre, p, atol=1e-5) for p in parts[found == count])
    assert not read.tensors[PARTS][:, 1:].any()  # they stand at the first shot
    memory.forget_recent()
    assert torch.equal(memory.read().tensors[PARTS][:, 0], seen.tensors[PARTS][:, 0])


def test_parts_fill_free_places_first():
    centres, counts = torch.eye(2), torch.tensor([4.0, 0.0])
    more, cells = torch.tensor([[1.0, 1.0], [1.0, 0.1]]), torch.tensor([2.0, 4.0])
    found, total = merge_parts(centres, counts, more, cells)
    assert total.tolist() == [8, 2]
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.05], [1.0, 1.0]]))
    assert torch.equal(centres, torch.eye(2))  # as it was


# ---- gates -------------------------------------------------------------------------------


def test_the_gate_is_relative_to_the_own_score():
    memory, _ = given_memory("fifo", every=1, gate=0.7, trust=0.5, own=0.3)
    assert memory.due({7: 0.209, 8: 0.211}) == [8]
    assert memory.due({}) == [] and memory.due({7: 0.9}) == [7]  # 8 is absent


def test_an_object_that_is_not_found_where_it_was_given_stays_as_it_is():
    memory = Memory(MemoryOptions("fifo", every=1, gate=0, trust=0.5))
    memory.give(context(2, 1), {7: 0.3, 8: 0.3}, {7: 0.49, 8: 0.51})
    assert memory.due({7: 0.9, 8: 0.9}) == [8]


def test_objects_come_go_and_are_corrected_by_themselves():
    memory, given = given_memory("fifo", **OPEN)
    frames = written(memory, 2)
    before = memory.read([8])
    memory.give(context(1, 1, seed=9), {7: 0.8}, {7: 0.7})  # a correction of 7
    assert not memory[7].recent and memory[7].own_score == 0.8
    assert memory[7].given.shots.shape[1] == int(given.shots[0].sum()) + 1
    assert memory[7].given.names == ["cat"]
    after = memory.read([8])
    assert all(torch.equal(after.tensors[k], v) for k, v in before.tensors.items())
    memory.give(replace(context(1, 1), ids=[3]), {3: 1.0}, {3: 1.0})
    assert memory.ids == [3, 7, 8] == memory.read().ids
    memory.remove(7)
    assert memory.ids == [3, 8] and len(memory[8].recent) == len(frames)
    with pytest.raises(ValueError, match=r"no object 7; there are \[3, 8\]"):
        memory.remove(7)
    memory.forget_recent()
    assert not memory[8].recent
    with pytest.raises(ValueError, match="no objects"):
        Memory().read()


@pytest.mark.parametrize("kind", ["mean", "clusters"])
def test_cells_are_not_averaged(kind):
    with pytest.raises(ValueError, match=f"TEST.VIDEO.MEMORY is '{kind}', which averages vectors"):
        Memory(MemoryOptions(kind)).give(context(1, 1, kind=CELLS), {7: 1.0}, {7: 1.0})


@pytest.mark.parametrize("kind", ["first", "fifo", "mean", "last", "clusters"])
def test_its_size_does_not_grow_and_a_file_brings_it_back(kind):
    memory = Memory(MemoryOptions(kind, size=3, **OPEN))
    c = with_parts(context(2, 2, seed=4), 0)
    parts = with_parts(context(2, 1), 1) if kind == "clusters" else None
    c.tensors = {k: v for k, v in c.tensors.items() if k in NAMES}
    memory.give(c, {7: 0.5, 8: 0.5}, {7: 1.0, 8: 1.0}, parts)
    sizes = []
    for n in range(100):
        frame = context(2, 1, seed=n)
        frame = with_parts(frame, n) if kind == "clusters" else frame
        scores = {7: 0.5, 8: 0.4 + n / 1000}
        if memory.due(scores):
            memory.write(frame, scores)
        sizes.append(memory.bytes)
    assert len(set(sizes[9:])) == 1
    back = Memory.unpacked(*memory.packed(), "cpu")
    assert back.options == memory.options and back.ids == memory.ids
    first, second = memory.read(), back.read()
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(v, second.tensors[k]) for k, v in first.tensors.items())
    assert [back[i].since for i in back.ids] == [memory[i].since for i in memory.ids]
