def test_a_model_of_ones_own_is_evaluated(run_example):
    (miou,) = run_example("your_model_our_protocol.py")
    assert 20 < miou < 32
