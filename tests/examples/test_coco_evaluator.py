import pytest

from segic_d2.modeling.backbone.embedded import cache_path


@pytest.mark.slow
@pytest.mark.skipif(not cache_path().is_file(), reason="the embedded weights are not prepared")
def test_one_example_of_each_class_detects_it(run_example):
    (ap50,) = run_example("coco_evaluator.py")
    assert ap50 > 12  # 18.5 when it was written
