"""What is known of devices, and that nobody else names one kind of them."""

import ast
from pathlib import Path

import pytest
import torch

from segic_d2.utils import devices

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {  # file: why it may name CUDA
    "segic_d2/utils/devices.py": "the place that knows kinds of devices",
    "segic_d2/engine/precision.py": "Detectron2's mixed-precision step runs on CUDA alone",
    "tools/benchmark.py": "torch's profiler names what it records",
    "tools/gpu_check.py": "it is for a machine with a CUDA device",
    "tools/gpu_equal.py": "its device by default; TF32 is CUDA's",
    "tools/gpu_speed.py": "its device by default; torch's profiler names what it records",
}


def code(path):
    """A file without comments and texts that stand alone, as docstrings do."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value = ast.Constant(None)
    return ast.unparse(tree)


def test_nothing_names_cuda_where_a_device_would_do():
    places = [ROOT / "train_net.py", *ROOT.glob("demo/*.py"), *ROOT.glob("tools/*.py")]
    places += ROOT.glob("segic_d2/**/*.py")
    named = {p.relative_to(ROOT).as_posix() for p in places if "cuda" in code(p).lower()}
    assert named == set(ALLOWED)


def test_a_cpu_is_always_there():
    assert devices.is_available("cpu") and devices.is_available(torch.device("cpu"))
    assert devices.kinds()[0] == "cpu" and devices.best_device() in ("cpu", "cuda")
    assert devices.is_available("cuda:1") == torch.cuda.is_available()
    devices.synchronize("cpu")
    assert devices.reset_peak_memory("cpu") is None and devices.peak_memory("cpu") is None
    assert devices.device_name("cpu") is None


@pytest.mark.parametrize("values", [[[1, 2]], torch.tensor([[1, 2]]), []])
def test_upload_gives_what_a_tensor_would(values):
    found = devices.upload(values, "cpu", torch.float32)
    assert torch.equal(found, torch.as_tensor(values, dtype=torch.float32))
    assert devices.upload(values, None).dtype == torch.as_tensor(values).dtype
