import numpy as np
import pytest
from PIL import Image

from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY, Mapper, TrainingMapper
from tests.data import toy


def mapper(name, dataset, **options):
    return EPISODE_MAPPER_REGISTRY.get(name)(toy.config(**options), Source(dataset))


def test_a_mask_of_another_size_names_both_files_and_sizes(tmp_path):
    dataset = toy.folder_a(tmp_path)
    mapping = mapper("one_shot", dataset)
    record = mapping.records[0]
    Image.fromarray(np.full((10, 12), 255, np.uint8)).save(record["mask_file_name"])
    message = rf"{record['file_name']} \({record['mask_file_name']}\) is 12x10 px.* 64x48 px"
    with pytest.raises(ValueError, match=message):
        mapping.plain_reference(0, 0)


def test_an_empty_reference_and_an_unreadable_image_are_named(tmp_path):
    mapping = mapper("one_shot", toy.folder_a(tmp_path))
    record = mapping.records[0]
    Image.fromarray(np.zeros(toy.SIZE, np.uint8)).save(record["mask_file_name"])
    with pytest.raises(ValueError, match=f"{record['file_name']} shows nothing of entity 0"):
        mapping.plain_reference(0, 0)
    with open(record["file_name"], "wb") as file:
        file.write(b"broken")
    with pytest.raises(ValueError, match=f"cannot read image {record['file_name']}"):
        mapping({"episode": 0, "class": 0, "target": 0, "references": [1]})


@pytest.mark.parametrize("name", ["semantic", "instance", "one_shot", "target"])
def test_mappers_declare_what_loaders_ask_for(tmp_path, name):
    dataset = toy.coco(tmp_path)
    source = dataset if name == "target" else Source(dataset)
    mapping = EPISODE_MAPPER_REGISTRY.get(name)(toy.config(), source)
    training = isinstance(mapping, TrainingMapper)
    assert isinstance(mapping, Mapper) and training == (name in ("semantic", "instance"))
    assert mapping.cache is None and mapping.with_cache("a cache") is mapping
    assert mapping.cache == "a cache" and not mapping.tells_more and mapping.labels is None
    if training:
        assert mapping.dataset == dataset and mapping.most_entities and not mapping.recurs
        with pytest.raises(NotImplementedError, match="Mapper maps no items of test loaders"):
            mapping.files({})
    else:
        item = (
            {"target": 0, "references": [1, 2]}
            if name == "one_shot"
            else Source(dataset).records[0]
        )
        assert {f.kind for f in mapping.files(item)} == {"image"}
