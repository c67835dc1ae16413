import numpy as np
import pytest
from PIL import Image

from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
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
