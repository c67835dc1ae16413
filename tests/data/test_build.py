import os
import pickle

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import build as d2_build
from detectron2.utils import comm

from segic_d2.data import (
    build_one_shot_loader,
    build_target_loader,
    build_train_loader,
    set_start,
)
from segic_d2.data.episodes import derive_seed
from segic_d2.data.health.damaged import DamagedDataError
from tests.data import toy
from tests.data.every_reference import load_references


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A config that mixes semantic and instance training over two forms."""
    folder = tmp_path_factory.mktemp("mixed")
    train = [toy.coco(folder), toy.sem_seg(folder), toy.folder_a(folder)]
    cfg = toy.config(train, input__semantic__max_entities=2, input__semantic__max_shots=2)
    cfg.DATASETS.EPISODE_MAPPERS = ("instance", "semantic", "semantic")
    cfg.INPUT.INSTANCE.JITTER_PROB = 0.5
    return cfg


def take(loader, number):
    iterator = iter(loader)
    return [next(iterator) for _ in range(number)]


def train_batches(cfg, number, workers=0, start=0):
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = workers
    return take(build_train_loader(cfg, start), number)


def assert_same(a, b):
    """Bitwise equality of nested lists and dicts of tensors and values."""
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


@pytest.mark.parametrize("workers", [1, 4])
def test_batches_do_not_depend_on_workers(mixed, workers):
    torch.manual_seed(workers)  # nor on the global generators
    assert_same(train_batches(mixed, 6, workers), train_batches(mixed, 6))


def test_absent_entities_do_not_depend_on_workers_or_processes(mixed, monkeypatch):
    cfg = mixed.clone()
    cfg.INPUT.ABSENT_PROB = 0.5
    alone = train_batches(cfg, 4)
    empty = [not e["masks"].flatten(1).any(1)[0] for batch in alone for e in batch]
    assert 2 <= sum(empty) <= 12
    assert_same(train_batches(cfg, 4, workers=2), alone)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(d2_build, "get_world_size", lambda: 2)
    assert_same(train_batches(cfg, 4), [batch[1::2] for batch in alone])


def test_two_processes_together_see_what_one_sees(mixed, monkeypatch):
    alone = train_batches(mixed, 3)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        monkeypatch.setattr(d2_build, "get_world_size", lambda: 2)
        parts.append(train_batches(mixed, 3, workers=2 * rank))
    for batch, first, second in zip(alone, *parts, strict=True):
        merged = [episode for pair in zip(first, second, strict=True) for episode in pair]
        assert_same(merged, batch)


def test_seed_and_position_decide(mixed):
    batches = train_batches(mixed, 3)
    seeds = [e["seed"] for batch in batches for e in batch]
    assert len(set(seeds)) == 12
    other = mixed.clone()
    other.SEED = mixed.SEED + 1
    assert not {e["seed"] for batch in train_batches(other, 3) for e in batch} & set(seeds)


def test_resuming_continues_the_stream(mixed):
    batches = train_batches(mixed, 5)
    assert_same(train_batches(mixed, 2, workers=2, start=3 * 4), batches[3:])
    loader = build_train_loader(mixed)
    set_start(loader, 4 * 4)
    assert_same(take(loader, 1), batches[4:])


def test_the_first_training_episodes_are_pinned(mixed):
    batch = train_batches(mixed, 1)[0]
    found = [
        (e["task"], os.path.basename(e["file_name"]), [x["id"] for x in e["entities"]])
        for e in batch
    ]
    assert found == [
        ("semantic", "7.jpg", [2]),
        ("instance", "7.png", [0, 1, 2]),
        ("semantic", "1.jpg", [1]),
        ("semantic", "7.jpg", [2, 3]),
    ]
    assert batch[0]["seed"] == derive_seed(42, 0)


def test_datasets_are_mixed_by_their_weights(mixed):
    cfg = mixed.clone()
    cfg.DATASETS.EPISODE_MAPPERS = ()
    for weights, low, high in (((), 20, 46), ((3.0, 0.0, 1.0), 0, 0), ((0.0, 5.0, 0.0), 100, 100)):
        cfg.DATASETS.WEIGHTS = weights
        stream = build_train_loader(cfg).dataset.dataset._dataset
        drawn = [stream[i]["dataset"] for i in range(100)]
        assert low <= drawn.count(1) <= high
    cfg.DATASETS.WEIGHTS = (1.0, 2.0)
    with pytest.raises(ValueError, match="DATASETS.WEIGHTS must be 3 numbers"):
        build_train_loader(cfg)


def test_training_config_errors_name_their_key(mixed):
    cfg = mixed.clone()
    cfg.DATASETS.EPISODE_MAPPERS = ("semantic",)
    with pytest.raises(ValueError, match="EPISODE_MAPPERS has 1 entries.*TRAIN has 3"):
        build_train_loader(cfg)
    cfg.DATASETS.EPISODE_MAPPERS = ("one_shot", "semantic", "semantic")
    with pytest.raises(ValueError, match="'one_shot' is not a mapper for training"):
        build_train_loader(cfg)
    cfg.DATASETS.EPISODE_MAPPERS = ("nonsense", "semantic", "semantic")
    with pytest.raises(KeyError, match="nonsense"):
        build_train_loader(cfg)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match="DATASETS.TRAIN is empty"):
        build_train_loader(cfg)


def test_records_are_shared_and_the_loader_can_be_spawned(mixed):
    loader = build_train_loader(mixed)
    pickle.loads(pickle.dumps(loader.dataset))


def _one_shot(cfg, name):
    return [e for batch in build_one_shot_loader(cfg, name) for e in batch]


def test_one_shot_episodes_do_not_depend_on_batches_or_processes(mixed, monkeypatch):
    cfg, name = mixed.clone(), mixed.DATASETS.TRAIN[0]
    cfg.TEST.EPISODES, cfg.TEST.SHOTS = 5, 2
    alone = _one_shot(cfg, name)
    assert [e["episode"] for e in alone] == list(range(5))
    assert all(len(e["references"]) == 2 for e in alone)
    cfg.TEST.BATCH_SIZE, cfg.SEED, cfg.DATALOADER.NUM_WORKERS = 2, 99, 1
    assert_same(_one_shot(cfg, name), alone)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        parts += _one_shot(cfg, name)
    assert_same(parts, alone)


def test_there_are_no_more_test_episodes_than_pairs(tmp_path, caplog):
    """Two red pictures are a pair in either direction."""
    name = toy.folder_a(tmp_path, number=4)
    cfg = toy.config(test__episodes=200)
    cfg.DATASETS.SINGLE_IMAGE_CLASSES = "skip"
    with caplog.at_level("INFO", "segic_d2"):
        assert len(_one_shot(cfg, name)) == 2
    assert f"{name} has 2 pairs of target and reference: so many episodes" in caplog.text


def test_a_class_with_one_image_is_named(tmp_path):
    name = toy.folder_a(tmp_path, number=4)  # the green and blue classes have one image each
    cfg = toy.config(test__episodes=3)
    with pytest.raises(ValueError, match=rf"blue thing\) of dataset '{name}'.*2\.jpg"):
        build_one_shot_loader(cfg, name)
    cfg.DATASETS.SINGLE_IMAGE_CLASSES = "skip"
    assert {e["entities"][0]["name"] for e in _one_shot(cfg, name)} == {"red thing"}


def test_target_loader_serves_the_stock_evaluators(mixed):
    for name, field in zip(mixed.DATASETS.TRAIN, ("image_id", "sem_seg_file_name"), strict=False):
        targets = [t for batch in build_target_loader(mixed, name) for t in batch]
        assert len(targets) == 8
        assert all(field in t and t["image"].shape == (3, 42, 56) for t in targets)


def test_references_are_fixed_and_carry_the_target_datasets_ids(mixed):
    coco, sem_seg, _ = mixed.DATASETS.TRAIN
    cfg = mixed.clone()
    cfg.TEST.SHOTS = 2
    references, names = load_references(cfg, [coco])
    assert names == dict(enumerate(toy.NAMES))
    assert [r["entity_ids"] for r in references] == [[0], [0], [1], [1], [2], [2]]
    assert_same(load_references(cfg, [coco])[0], references)
    cfg.TEST.SEED = 1
    other = load_references(cfg, [coco])[0]
    assert [r["file_name"] for r in other] != [r["file_name"] for r in references]
    # the label maps count from 1, 0 being background
    references, names = load_references(cfg, [coco], sem_seg)
    assert names == {i + 1: n for i, n in enumerate(toy.NAMES)}
    for reference in references:
        inside = reference["masks"][0] > 0.9
        colour = reference["image"][:, inside].float().mean(1)
        assert colour.argmax() + 1 == reference["entity_ids"][0]


def test_references_of_strange_classes_are_an_error(mixed, tmp_path):
    name = toy.coco(tmp_path)
    other = toy.unique("strange")
    DatasetCatalog.register(other, lambda: DatasetCatalog.get(toy.sem_seg(tmp_path)))
    MetadataCatalog.get(other).set(stuff_classes=["background", "x", "y", "z"])
    with pytest.raises(ValueError, match=f"show no class of dataset '{other}'"):
        load_references(mixed, [name], other)


@pytest.mark.parametrize("make", [toy.coco, toy.sem_seg])
def test_missing_pictures_are_named_before_the_first_iteration(tmp_path, make):
    name = make(tmp_path)
    gone = sorted(r["file_name"] for r in DatasetCatalog.get(name))[:2]
    for file in gone:
        os.remove(file)
    with pytest.raises(DamagedDataError) as error:
        build_train_loader(toy.config((name,)))
    assert str(error.value).startswith("2 damaged or missing: ")
    assert all(f"dataset {name!r}: no such file: {file}" in str(error.value) for file in gone)
