"""How a run ends. What it does is in test_training.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from segic_d2.data.index import Source
from segic_d2.engine.run import one_line_errors
from tests.data import toy


def test_what_is_wrong_with_data_is_one_line(tmp_path):
    toy.coco(tmp_path)
    data = json.loads((tmp_path / "coco.json").read_text())
    data["annotations"][0]["segmentation"] = [[1, None, 5, 5, 9, 9]]
    (tmp_path / "bad.json").write_text(json.dumps(data))
    with pytest.raises(SystemExit) as end, one_line_errors():
        Source(f"coco:{tmp_path}/bad.json:{tmp_path}/images")
    start = f"error: {tmp_path}/bad.json: annotation {data['annotations'][0]['id']}: polygon 1 has"
    assert end.value.code.startswith(start) and "\n" not in end.value.code


@pytest.mark.parametrize(
    "fails",
    [lambda: np.zeros(3).reshape(2, 2), lambda: {}["a"], lambda: Path("/no/file").read_text()],
    ids=["of a library", "of no kind of ours", "of the system"],
)
def test_other_errors_keep_their_traceback(fails):
    with pytest.raises((ValueError, KeyError, OSError)), one_line_errors():
        fails()
