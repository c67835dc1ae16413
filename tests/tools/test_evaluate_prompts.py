"""The tool that measures boxes and clicks as references."""

import json

import numpy as np
import pytest

import evaluate_prompts as tool
from tests.tiny import tiny_config
from tests.tools.test_calibrate import R, place  # noqa: F401  a fixture


def test_forms_of_a_mask():
    mask = np.zeros((40, 60), bool)
    mask[10:21, 5:44] = True
    mask[15, 50] = True
    assert tool.box(mask) == [5, 10, 51, 21]
    x, y = tool.innermost(mask)
    assert y == 15 and 10 <= x <= 38  # six rows from the edge
    mask[:] = True
    assert tool.innermost(mask)[1] in (19, 20)  # the border of the picture is one
    mask[:] = False
    mask[30, 7] = True
    assert tool.innermost(mask) == (7, 30)
    rows, columns = np.nonzero(tool.disc(mask, 0.05))  # two px of forty
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (28, 32, 5, 9)
    assert len(rows) == 13


def test_grab_cut_finds_what_stands_out_in_its_box():
    image, mask = np.full((40, 60, 3), 30, np.uint8), np.zeros((40, 60), bool)
    image += np.random.default_rng(0).integers(0, 9, image.shape, dtype=np.uint8)
    rows, columns = np.ogrid[:40, :60]
    mask |= np.hypot(rows - 20, columns - 30) < 11
    image[mask] += 180
    found = tool.grab_cut(image, mask)
    assert (found & mask).sum() / (found | mask).sum() > 0.95
    assert tool.grab_cut(image, np.ones_like(mask)).all()  # nothing is outside


def test_a_row_for_each_form(place, tmp_path, capsys):  # noqa: F811
    config, output = tmp_path / "tiny.yaml", tmp_path / "found.json"
    opts = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", f"{R}CUT", 0.9, f"{R}CELLS", 24
    config.write_text(tiny_config(*opts).dump())
    tool.main([str(place), "--config-file", str(config), "--output", str(output)])
    text, found = capsys.readouterr().out, json.loads(output.read_text())[str(place)]
    assert list(found) == list(tool.FORMS) and list(found["mask"]["classes"]) == sorted(
        found["mask"]["classes"]
    )
    for form, one in found.items():
        assert f"| {form} | {one['IoU']:.1f} | {one['IoU'] / found['mask']['IoU']:.3f} | " in text
    with pytest.raises(SystemExit, match="error: no such folder"):
        tool.main([str(tmp_path / "none"), "--config-file", str(config)])
