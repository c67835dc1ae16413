"""docs/first_steps.ipynb runs from its first cell to its last, offline, and shows what it says."""

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def printed(cell):
    """What a cell printed, and its last value as text."""
    texts = [x["text"] if "text" in x else x.get("data", {}).get("text/plain", "") for x in cell]
    return "".join(map("".join, texts))


def pictures(cell):
    shown = [x["data"]["image/png"] for x in cell if "image/png" in x.get("data", {})]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in shown]


def test_no_outputs_are_kept():
    """They would be of another commit, and large."""
    cells = code_cells(json.loads(NOTEBOOK.read_text(encoding="utf-8")))
    assert len(cells) >= 8
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="pip install 'segic_d2[dev]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install 'segic_d2[dev]'")
    pytest.importorskip("ipykernel", reason="pip install 'segic_d2[dev]'")
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    notebook = nbformat.read(NOTEBOOK, 4)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=where).execute()
    outputs = [cell["outputs"] for cell in code_cells(notebook)]
    assert not any(x.get("name") == "stderr" for x in outputs[0]), outputs[
        0
    ]  # nothing to read past
    coin, click, single, box, several, held, saved, context, labels, shell = outputs[1:]
    sizes = [
        picture.shape for cell in (coin, click, single, box, several) for picture in pictures(cell)
    ]
    assert sizes == [(303, 384, 3)] * 3 + [(500, 741, 3)] * 2
    assert "24 coins" in printed(single)
    assert "motorcycle: score" in printed(held) and "red box: score" in printed(held)
    files = {
        "garage.jpg",
        "garage.json",
        "labels.png",
        "garage.safetensors",
        "out",
        "garage",
        "labels",
    }
    assert {path.name for path in (tmp_path / "first_steps").iterdir()} == files
    told = printed(labels)
    assert "round 1: 2 pictures" in told and "labels: labelme:" in told
    labelled = tmp_path / "first_steps" / "labels/round-1/labels/motorcycle_right.json"
    names = {shape["label"] for shape in json.loads(labelled.read_text())["shapes"]}
    assert {"motorcycle", "red box"} == names
    labels = np.asarray(Image.open(tmp_path / "first_steps" / "labels.png"))
    shares = [(labels == i).mean() for i in (1, 2, 3)]
    assert 0.2 < shares[0] < 0.45 and 0.005 < shares[1] < 0.03 and shares[2] < 0.001  # no cat
    assert "motorcycle_right_labels.png" in printed(shell) and "error" not in printed(shell)
