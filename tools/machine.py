"""The machine's name, clock and memory, and tables, for the benchmarks."""

import contextlib
import ctypes
import gc
import platform
import re
from pathlib import Path

import torch

from segic_d2.utils import devices


def peak_memory(run, device):
    """Peak MB of one run, over what was held before; None if the system does not tell."""
    gc.collect()
    before = devices.reset_peak_memory(device)
    if before is not None:
        run()
        return (devices.peak_memory(device) - before) / 2**20
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # give back what earlier runs left
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 2**10
    except OSError:
        return None


def _status(field):
    """A figure of /proc/self/status, KiB."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def hardware(device):
    name = devices.device_name(device)
    if name is None:
        name = platform.processor() or platform.machine()
        with contextlib.suppress(OSError, TypeError):
            found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
            name = f"{found[1]}, {torch.get_num_threads()} threads"
    return f"{name}, torch {torch.__version__}, float32"


def markdown(lines):
    """A Markdown table from rows of text; the first row is the head."""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
