"""The training benchmark: its command at a small size, and how it counts memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

TOOLS = Path(__file__).resolve().parents[2] / "tools"
SMALL = ["--config", "segic_dinov2_S.yaml", "--device", "cpu", "--batch", "2"]
OPTS = ["--opts", "INPUT.CANVAS", "112", "MODEL.TIMM.BLOCKS", "(0,)"]


@pytest.fixture(scope="module")
def live_memory():
    sys.path.insert(0, str(TOOLS))
    try:
        import live_memory
    finally:
        sys.path.remove(str(TOOLS))
    return live_memory


def run(*arguments):
    command = [sys.executable, TOOLS / "benchmark.py", "--training", *SMALL, *arguments, *OPTS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    return done.stdout, rows


def test_the_command_compares_loaders_and_ways_to_use_the_cache(tmp_path):
    sizes = ["--images", "4", "--size", "60", "80", "--episodes", "3", "--steps", "2"]
    out, rows = run(*sizes, "--repeats", "2", "--output", tmp_path / "b.json")
    assert [row[0] for row in rows] == [
        *("| mapper", "| ---", "| semantic", "| instance"),
        *("| path", "| ---", "| no cache", "| cold cache", "| warm cache"),
    ]
    figures = json.loads((tmp_path / "b.json").read_text())
    for row in figures["loader"]:
        assert row["ratio"] > 0 and row["episodes_per_s"] > 0
    plain, cold, warm = figures["steps"]
    for row in figures["steps"]:
        assert sum(row["shares"].values()) == pytest.approx(1)
    # counted, not timed: two steps of two targets with a reference each, of four images' two views
    assert plain["backbone_images"] == 8 and 0 < cold["backbone_images"] <= 8
    assert warm["backbone_images"] == 0 and plain["ratio"] == 1


def test_the_command_estimates_memory(tmp_path):
    _, rows = run("--memory", "--entities", "1", "3", "--output", tmp_path / "b.json")
    assert [row[0] for row in rows[2:]] == ["| 1", "| 3"]
    one, three = json.loads((tmp_path / "b.json").read_text())["memory"]
    assert three["step_activations"] > one["step_activations"] > 0
    head = 4 * 4 * 4_852_964  # bytes: weights, gradients and two moments, fp32
    assert one["trained_parameters"] == pytest.approx(head / 1e9)
    assert one["total"] > one["backbone_parameters"] + one["trained_parameters"]


def test_live_memory_counts_what_lives(live_memory):
    with live_memory.LiveMemory() as live:
        a = torch.zeros(1000)
        b = a[10:].view(-1, 10) + 1  # a view is no memory, its sum is
        assert live.now == 4000 + 3960
        a.add_(1)
        del b
        assert (live.now, live.peak) == (4000, 7960)
        x = torch.ones(1000, requires_grad=True)
        y = x.exp().sin().sum()
        assert live.now == 2 * 4000 + 4000 + 4  # exp's result is kept, sin's is not
        y.backward()
        assert live.now == 2 * 4000 + 4000 + 4  # the gradient took its place
        assert live.peak >= live.now + 4000
    with torch.device("meta"), live_memory.FusedAttention(), live_memory.LiveMemory() as live:
        q = torch.zeros(1, 8, 500, 16)
        F.scaled_dot_product_attention(q, q, q)
    assert live.peak == 2 * 4 * 8 * 500 * 16
