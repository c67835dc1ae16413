import itertools

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, build_detection_train_loader

from segic_d2.data import InstanceMapper, SemanticMapper
from tests.data import toy
from tests.data.mappers.parts import check


@pytest.mark.parametrize("form", list(toy.FORMS))
def test_stock_loaders_give_episodes_of_every_form(tmp_path, form):
    cfg = toy.config(train=[toy.FORMS[form](tmp_path)])
    loader = build_detection_train_loader(cfg, mapper=SemanticMapper(cfg, True))
    for batch in itertools.islice(loader, 3):
        assert len(batch) == 4
        for episode in batch:
            check(episode)
            assert all(r["file_name"] != episode["file_name"] for r in episode["references"])


@pytest.mark.parametrize("mapper", [SemanticMapper, InstanceMapper])
def test_the_record_is_the_target(tmp_path, mapper):
    name = toy.coco(tmp_path)
    mapping = mapper(toy.config(train=[name]), True)
    for record in DatasetCatalog.get(name):
        episode = mapping(record)
        check(episode)
        assert episode["file_name"] == record["file_name"]
        shown = {a["category_id"] for a in record["annotations"]}
        assert {e.get("category", e["id"]) for e in episode["entities"]} <= shown


def test_a_field_of_a_record_may_have_any_name(tmp_path):
    name = toy.coco(tmp_path)
    record = {**DatasetCatalog.get(name)[0], "target": 3, "seed": 1}
    check(SemanticMapper(toy.config(train=[name]), True)(record))


def test_numpys_generator_decides_the_draws(tmp_path):
    name = toy.coco(tmp_path)
    mapping, record = SemanticMapper(toy.config(train=[name]), True), DatasetCatalog.get(name)[0]
    found = []
    for seed in (3, 3, 4):
        np.random.seed(seed)
        found.append([mapping(record) for _ in range(3)])
    same, again, other = ([x["seed"] for x in draws] for draws in found)
    assert same == again and not set(same) & set(other) and len(set(same)) == 3
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(*found[:2], strict=True))
    classes = {mapping(record)["entities"][0]["id"] for _ in range(20)}
    assert classes == {0, 1}  # both that the picture shows


def test_a_record_without_an_episode_is_passed_over(tmp_path):
    name = toy.unique("lonely")
    records = DatasetCatalog.get(toy.coco(tmp_path))
    for i, record in enumerate(records[:3]):  # a class that no other image shows, or nothing
        record["annotations"] = [] if i else record["annotations"][1:2]
    records[0]["annotations"][0]["category_id"] = 3
    DatasetCatalog.register(name, lambda: records)
    toy.MetadataCatalog.get(name).thing_classes = [*toy.NAMES, "lonely thing"]
    options = {"datasets__single_image_classes": "skip", "solver__ims_per_batch": 1}
    cfg = toy.config(train=[name], dataloader__filter_empty_annotations=False, **options)
    mapping = SemanticMapper(cfg, True)
    assert [mapping(r) is None for r in records] == [True] * 3 + [False] * 5
    assert [InstanceMapper(cfg, True)(r) is None for r in records[:3]] == [False, True, True]
    loader = build_detection_train_loader(cfg, mapper=mapping)
    seen = {batch[0]["file_name"] for batch in itertools.islice(loader, 40)}
    assert seen == {r["file_name"] for r in records[3:]}


def test_what_it_cannot_map_is_one_line(tmp_path):
    names = [toy.coco(tmp_path / "a"), toy.coco(tmp_path / "b")]
    with pytest.raises(ValueError, match=r"SemanticMapper\(cfg, True\) .* DATASETS.TRAIN has 2: "):
        SemanticMapper(toy.config(train=names), True)
    with pytest.raises(ValueError, match=r"DATASETS.TRAIN has 2: \('(.*)', '\1'\)"):
        SemanticMapper(toy.config(train=names[:1] * 2), True)
    with pytest.raises(ValueError, match="DATASETS.TRAIN has 0"):
        InstanceMapper(toy.config(), True)
    with pytest.raises(ValueError, match="of training alone"):
        SemanticMapper(toy.config(train=names[:1]), False)
    mapping = SemanticMapper(toy.config(train=names[:1]), True)
    with pytest.raises(ValueError, match=f"b/images/0.png is no image of dataset '{names[0]}'"):
        mapping(DatasetCatalog.get(names[1])[0])
