"""How results are numbered for Detectron2's evaluators: by the names of a data set's classes."""

import uuid

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from segic_d2.structures.stock import StockForms
from tests.tiny import prototype_context, tiny_config


def context(*names):
    vectors, shots = torch.zeros(len(names), 1, 3), torch.ones(len(names), 1, dtype=torch.bool)
    return prototype_context(vectors, vectors, shots, None, [*range(7, 7 + len(names))], names)


def dataset(**metadata):
    name = f"stock_{uuid.uuid4().hex[:8]}"
    MetadataCatalog.get(name).set(**metadata)
    return name


PETS = ["dog", "bird", "cat"]


def test_entities_are_the_classes_of_their_names():
    forms = StockForms((dataset(thing_classes=PETS),))
    # sem_seg has no numbers there
    assert forms.numbers(context("cat", "dog")) == ({0: 2, 1: 0}, {})
    assert forms.numbers(context(None, None)) == ({0: 0, 1: 1}, {})


def test_without_classes_they_come_in_the_order_of_the_context(caplog):
    pets = context("cat", "dog", "horse")
    order = {0: 0, 1: 1, 2: 2}
    assert StockForms().numbers(pets) == (order, order)
    assert StockForms().channels(pets) == (4, 3)  # one more channel where nothing passes
    assert StockForms(best=True).channels(context("cat")) == (1, None)
    name = f"nowhere_{uuid.uuid4().hex[:8]}"
    with caplog.at_level("WARNING"):
        for _ in range(2):
            assert StockForms((name,)).numbers(pets) == (order, order)
    (told,) = caplog.records
    assert f"DATASETS.TEST '{name}' does not say its classes" in told.getMessage()


def test_classes_that_come_with_the_file_are_read():
    """As of register_coco_instances, which knows them when the file has been read."""
    name = f"later_{uuid.uuid4().hex[:8]}"
    DatasetCatalog.register(name, lambda: MetadataCatalog.get(name).set(thing_classes=PETS) and [])
    assert StockForms((name,)).numbers(context("cat")) == ({0: 2}, {})


@pytest.mark.parametrize(
    "metadata, expected",
    [
        ({"stuff_classes": PETS}, (4, 3)),
        ({"stuff_classes": ["sky", "background", *PETS]}, (5, 1)),
        # SemSegEvaluator knows no id of a class that the data set has not
        (
            {"stuff_classes": PETS, "stuff_dataset_id_to_contiguous_id": {5: 0, 6: 1, 9: 2}},
            (3, None),
        ),
    ],
)
def test_what_no_entity_takes(metadata, expected):
    forms, pets = StockForms((dataset(**metadata),)), context("cat", "dog")
    shift = len(metadata["stuff_classes"]) - len(PETS)
    assert forms.numbers(pets) == ({}, {0: 2 + shift, 1: shift})
    assert forms.channels(pets) == expected


def test_things_and_stuff_of_one_data_set_have_numbers_of_their_own():
    forms = StockForms((dataset(thing_classes=PETS, stuff_classes=["things", "sky"]),))
    assert forms.numbers(context("sky", "cat", "dog")) == ({1: 2, 2: 0}, {0: 1})


def test_names_that_do_not_fit_are_refused():
    for kind in ("thing_classes", "stuff_classes"):
        forms = StockForms((dataset(**{kind: PETS}),))
        with pytest.raises(ValueError, match=r"entity 'Cat' is no class of .*dog, bird, cat: give"):
            forms.numbers(context("dog", "Cat"))
        with pytest.raises(ValueError, match="4 entities without names, and .* has 3 classes"):
            forms.numbers(context(None, None, None, None))
    with pytest.raises(ValueError, match="entity None is no class"):
        forms.numbers(context("dog", None))
    one, two = dataset(thing_classes=PETS), dataset(thing_classes=["dog"])
    with pytest.raises(ValueError, match=f"DATASETS.TEST names {one}, {two}, whose thing_classes"):
        StockForms((one, two)).numbers(context("dog"))
    same = StockForms((one, dataset(thing_classes=PETS)))
    assert same.numbers(context("bird")) == ({0: 1}, {})


def test_keys():
    name = dataset(thing_classes=PETS)
    opts = ("DATASETS.TEST", (name,), "INPUT.FORMAT", "BGR", "TEST.NO_CLASS", "best")
    cfg = tiny_config(*opts, "TEST.DETECTIONS_PER_IMAGE", 5)
    assert StockForms.from_config(cfg) == StockForms((name,), "BGR", 5, True)
