"""examples/coco_evaluator.py: one-shot detection through the stock evaluator."""

import pytest

from segic_d2.modeling.backbone.embedded import cache_path
from tests.examples.run import figures


@pytest.mark.skipif(not cache_path().is_file(), reason="the embedded weights are not prepared")
def test_one_example_of_each_class_detects_it(tmp_path):
    (ap50,) = figures("coco_evaluator", tmp_path)
    assert ap50 > 12  # 18.5 when it was written
