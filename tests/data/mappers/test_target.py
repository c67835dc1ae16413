import pytest

from segic_d2.data.index import Source
from segic_d2.data.mappers.base import EPISODE_MAPPER_REGISTRY
from tests.data import toy


def mapper(name, dataset, **options):
    return EPISODE_MAPPER_REGISTRY.get(name)(toy.config(**options), dataset)


def test_targets_keep_their_records_fields_and_check_their_size(tmp_path):
    mapping = mapper("target", toy.coco(tmp_path))
    record = Source(toy.coco(tmp_path)).records[2]
    found = mapping(record)
    assert found["image"].shape == (3, 42, 56) and "annotations" not in found
    kept = {k: found[k] for k in ("file_name", "image_id", "height", "width")}
    assert kept == {k: record[k] for k in kept}
    with pytest.raises(ValueError, match="2.png is 64x48 px.*says 64x50 px"):
        mapping({**record, "height": 50})
