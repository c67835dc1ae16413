"""A recording: what one checkout does, as scalars and arrays by part, and on which machine.

On disk it is a folder (``record.json`` and ``arrays.npz``), or one JSON file that holds a summary
of each array in place of its values.
"""

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PROBES = 12  # values that a summary keeps of an array of floats
COUNTED = 12  # different values that a summary counts in an array of whole numbers


@dataclass
class Recording:
    """What was recorded.

    Attributes:
        facts: the machine, the versions and the commit.
        scalars: {part: {name: number, bool or text}}.
        arrays: {part: {name: array, or its summary}}.
        failures: {part: one line} of the parts that raised an error.
        skipped: {part: one line} of the parts whose data are not here.
    """

    facts: dict = field(default_factory=dict)
    scalars: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    skipped: dict = field(default_factory=dict)

    def add(self, part: str, scalars: dict | None = None, arrays: dict | None = None) -> None:
        """Keep figures of a part; arrays are kept as they are, not converted."""
        self.scalars.setdefault(part, {}).update(scalars or {})
        found = {name: np.asarray(a) for name, a in (arrays or {}).items()}
        self.arrays.setdefault(part, {}).update(found)

    def update(self, other: "Recording") -> None:
        """Take in what another process has recorded of the same checkout."""
        for name in ("facts", "scalars", "arrays", "failures", "skipped"):
            getattr(self, name).update(getattr(other, name))

    @property
    def parts(self) -> list[str]:
        """All parts, whether they ran or failed, in their order."""
        return list(dict.fromkeys([*self.scalars, *self.failures]))

    def save(self, path: str | Path) -> None:
        """Write a folder, or a summary where the path ends with ".json"."""
        path, arrays = Path(path), self.arrays
        content = {k: getattr(self, k) for k in ("facts", "scalars", "failures", "skipped")}
        if path.suffix == ".json":
            content["summaries"] = {
                part: {name: summary(a) for name, a in found.items()}
                for part, found in arrays.items()
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=0) + "\n")
            return
        path.mkdir(parents=True, exist_ok=True)
        (path / "record.json").write_text(json.dumps(content, indent=1) + "\n")
        flat = {f"{part}|{name}": a for part, found in arrays.items() for name, a in found.items()}
        np.savez_compressed(path / "arrays.npz", **flat)

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Read a folder or a summary.

        Raises:
            FileNotFoundError: there is none.
        """
        path = Path(path)
        content = json.loads((path if path.is_file() else path / "record.json").read_text())
        arrays = content.pop("summaries", {})
        if path.is_dir():
            with np.load(path / "arrays.npz") as file:
                for key in file.files:
                    part, _, name = key.rpartition("|")
                    arrays.setdefault(part, {})[name] = file[key]
        return cls(arrays=arrays, **content)


def summary(array: np.ndarray | dict) -> dict:
    """What a stored JSON file keeps of an array: its form, and a few figures of its values."""
    if isinstance(array, dict):  # it is one already
        return array
    about = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.dtype.kind in "bui":
        values, counts = np.unique(array, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:COUNTED]
        return about | {"counts": {str(int(values[i])): int(counts[i]) for i in order}}
    flat = array.astype(np.float64).ravel()
    places = np.linspace(0, max(flat.size - 1, 0), PROBES).astype(int)
    figures = [flat.mean(), np.abs(flat).mean(), np.abs(flat).max()] if flat.size else []
    values = [*figures, *flat[places if flat.size else []]]
    return about | {"figures": [float(f"{v:.9g}") for v in values]}


def machine() -> dict:
    """Facts that bits depend on."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "omp": os.environ.get("OMP_NUM_THREADS", ""),
    }
