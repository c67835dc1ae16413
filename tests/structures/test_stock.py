"""How results are numbered for Detectron2's evaluators: by the names of a data set's classes."""

import uuid

import pytest
import torch
from detectron2.data import MetadataCatalog

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
    pets = context("cat", "dog")
    assert forms.things(pets) == [2, 0] and forms.fits("thing_classes", pets)
    assert not forms.fits("stuff_classes", pets)  # sem_seg has no numbers there
    assert forms.things(context(None, None)) == [0, 1]


def test_without_classes_they_come_in_the_order_of_the_context():
    for forms in (StockForms(), StockForms((dataset(evaluator_type="coco"),))):
        pets = context("cat", "dog", "horse")
        assert forms.things(pets) == [0, 1, 2]
        assert forms.fits("thing_classes", pets) and forms.fits("stuff_classes", pets)
        assert forms.stuff(pets) == ([0, 1, 2], 4, 3)  # one more channel where nothing passes
    assert StockForms(best=True).stuff(context("cat")) == ([0], 1, None)


@pytest.mark.parametrize(
    "metadata, expected",
    [
        ({"stuff_classes": PETS}, ([2, 0], 3 + 1, 3)),
        ({"stuff_classes": ["background", *PETS]}, ([3, 1], 4, 0)),
        # SemSegEvaluator knows no id of a class that the data set has not
        (
            {"stuff_classes": PETS, "stuff_dataset_id_to_contiguous_id": {5: 0, 6: 1, 9: 2}},
            ([2, 0], 3, None),
        ),
    ],
)
def test_what_no_entity_takes(metadata, expected):
    assert StockForms((dataset(**metadata),)).stuff(context("cat", "dog")) == expected


def test_things_and_stuff_of_one_data_set_have_numbers_of_their_own():
    forms = StockForms((dataset(thing_classes=PETS, stuff_classes=["things", "sky"]),))
    assert forms.fits("thing_classes", context("cat"))
    assert not forms.fits("stuff_classes", context("cat"))
    assert forms.fits("stuff_classes", context("sky"))


def test_names_that_do_not_fit_are_refused():
    forms = StockForms((dataset(thing_classes=PETS),))
    with pytest.raises(ValueError, match=r"entity 'Cat' is no class of .*dog, bird, cat: drop it"):
        forms.things(context("dog", "Cat"))
    with pytest.raises(ValueError, match="4 entities without names, and the data set 3 classes"):
        forms.things(context(None, None, None, None))
    one, two = dataset(thing_classes=PETS), dataset(thing_classes=["dog"])
    with pytest.raises(ValueError, match=f"DATASETS.TEST names {one}, {two}, whose thing_classes"):
        StockForms((one, two)).things(context("dog"))
    same = StockForms((one, dataset(thing_classes=PETS), dataset()))
    assert same.things(context("bird")) == [1]


def test_keys():
    name = dataset(thing_classes=PETS)
    opts = ("DATASETS.TEST", (name,), "INPUT.FORMAT", "BGR", "TEST.NO_CLASS", "best")
    cfg = tiny_config(*opts, "TEST.DETECTIONS_PER_IMAGE", 5)
    assert StockForms.from_config(cfg) == StockForms((name,), "BGR", 5, True)
