import pytest


@pytest.mark.slow
def test_one_example_of_each_class_detects_it(run_example):
    (ap50,) = run_example("coco_evaluator.py")
    assert ap50 > 12  # 18.5 when it was written
