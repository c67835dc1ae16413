"""What a target costs is counted for every kind of model, and grows with prompts as it must."""

import pytest

import benchmark
import benchmark_models
from tests.modeling.seggpt.parts import TINY, tiny_model


def work(entities, shots):
    context, _, target, seconds = benchmark_models.measure(tiny_model(), entities, shots, 1)
    assert context == 0 and seconds >= 0
    return target


def test_a_target_costs_a_pass_per_entity_and_shot():
    one = work(1, 1)
    assert one > 0
    assert work(3, 2) == pytest.approx(6 * one, rel=0.2)


def test_the_benchmarks_command_prints_every_case(capsys):
    small = [x for k, v in TINY.items() for x in (f"MODEL.SEGGPT.{k}", str(v))]
    opts = ["--opts", "INPUT.CANVAS", "32", *small]
    given = ["seggpt/vit_large.yaml", "--cases", "1x1", "2x1", "--count", "--device", "cpu"]
    benchmark.main(["--models", *given, *opts])
    rows = [x for x in capsys.readouterr().out.splitlines() if x.startswith("| seggpt")]
    assert [x.split(" | ")[1:4] for x in rows] == [["32", "1", "1"], ["32", "2", "1"]]
    with pytest.raises(SystemExit):
        benchmark.main(["--count", "--models"])
