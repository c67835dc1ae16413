from tests.examples.running import run_example


def test_a_model_of_ones_own_is_evaluated(tmp_path):
    (miou,) = run_example("your_model_our_protocol.py", tmp_path)
    assert 20 < miou < 32
