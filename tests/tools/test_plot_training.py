"""tools/plot_training.py on made-up runs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PATH = Path(__file__).resolve().parents[2] / "tools" / "plot_training.py"
spec = importlib.util.spec_from_file_location("plot_training", PATH)
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


def write(folder, values, **more):
    folder.mkdir()
    lines = [{"iteration": 20 * i, "total_loss": v, **more} for i, v in enumerate(values)]
    lines.append({"iteration": 99, "one_shot/mIoU": 50.0})  # an evaluation
    (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return str(folder)


def test_a_panel_for_each_curve_that_is_there(tmp_path):
    plain = write(tmp_path / "a", [3.0, 2.0, 1.0])
    assert [line["total_loss"] for line in tool.read_metrics(plain)] == [3.0, 2.0, 1.0]
    rich = write(tmp_path / "b", [3.0, 1.0], mask_iou=0.5)
    sizes = []
    for runs in ([plain], [plain, rich]):
        tool.main([str(tmp_path / "out.png"), *runs])
        picture = np.asarray(Image.open(tmp_path / "out.png"))
        sizes.append(picture.shape[1])
        assert picture.std() > 5  # something is drawn
    assert sizes[1] == 2 * sizes[0]


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(SystemExit, match="metrics.json"):
        tool.main([str(tmp_path / "out.png"), str(tmp_path / "none")])
    empty = write(tmp_path / "empty", [])
    with pytest.raises(SystemExit, match="empty/metrics.json reports no training"):
        tool.main([str(tmp_path / "out.png"), empty])
