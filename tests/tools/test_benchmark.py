"""The benchmark's two routes agree, and its command prints what it measured."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec

from segic_d2.modeling.layers.similarity import Similarity
from segic_d2.modeling.segic.mask_head import InContextMaskHead
from segic_d2.modeling.segic.released import RELEASED

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def head():
    torch.manual_seed(0)
    similarity = Similarity(112, ShapeSpec(channels=24, stride=14), upsampled=True)
    return InContextMaskHead(similarity=similarity, channels=24, rules=RELEASED)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 5])
def test_the_plain_route_gives_the_same_masks(benchmark, head, count):
    torch.manual_seed(40 + count)  # the best positions are clear, not equal ones at the border
    features = torch.randn(1, 24, 8, 8)
    queries = benchmark.random_queries(count, 24, 768, "cpu")
    logits, masks = benchmark.our_route(head, features, queries, benchmark.no_stage)
    plain, full = benchmark.released_route(head, features, queries, benchmark.no_stage)
    assert logits.shape == plain.shape == (count, 32, 32) and full.shape == (count, 112, 112)
    torch.testing.assert_close(logits, plain, atol=1e-5, rtol=1e-4)
    clear = full.abs() > 1e-5
    assert torch.equal(masks[clear], full[clear] > 0)


@torch.no_grad()
def test_stages_are_timed_around_the_head_and_leave_it_as_it_was(benchmark, head):
    features = torch.randn(1, 24, 8, 8)
    queries = benchmark.random_queries(3, 24, 768, "cpu")
    parts = head, head.neck, head.prompt_encoder, head.similarity
    before = [dict(vars(x)) for x in parts]
    stages = benchmark.Stages("cpu")
    with_stages = benchmark.our_route(head, features, queries, stages)[0]
    assert [dict(vars(x)) for x in parts] == before
    assert torch.equal(with_stages, benchmark.our_route(head, features, queries, stages)[0])
    shares = stages.medians(2, 1.0)
    assert set(shares) == set(benchmark.STAGES) and all(x > 0 for x in shares.values())
    whole = stages.total()
    assert sum(map(sum, stages.runs.values())) == pytest.approx(whole)


def test_the_command_prints_a_row_per_path_and_writes_the_figures(tmp_path):
    opts = ["INPUT.CANVAS", "112", "MODEL.TIMM.NAME", "vit_small_patch14_dinov2"]
    done = subprocess.run(
        [sys.executable, TOOL, "--configs", "official/segic_dinov2_B.yaml", "--device", "cpu"]
        + ["--entities", "1", "3", "--repeats", "2", "--output", tmp_path / "b.json"]
        + ["--profile", "--opts", *opts],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("matrix products ") == 2  # a profile for each number of entities
    assert [line.split(" | ")[3] for line in done.stdout.splitlines() if "| 384 |" in line] == [
        *("ours", "released"),
        *("ours", "released"),
    ]
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert [row["entities"] for row in rows] == [1, 3]
    assert all(row["difference"] < 1e-4 for row in rows)
    # arithmetic is counted, not timed: a second and third entity cost more
    assert rows[1]["ours"]["floor"] > rows[0]["ours"]["floor"]
