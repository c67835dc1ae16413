"""The tool that measures what each part of the region head is worth."""

import json

import numpy as np
import pytest
from PIL import Image

import compare_heads
from segic_d2.config.load import load_config
from tests.tiny import tiny_config

R = "MODEL.SEGIC.REGIONS."


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "set" / "square").mkdir(parents=True)
    for n in (1, 2, 3):
        image, mask = rng.integers(0, 90, (60, 80, 3), dtype=np.uint8), np.zeros((60, 80), np.uint8)
        y, x = 5 * n, 9 * n
        image[y : y + 30, x : x + 30], mask[y : y + 30, x : x + 30] = (250, 40, 20), 255
        Image.fromarray(image).save(tmp_path / "set" / "square" / f"{n}.bmp")
        Image.fromarray(mask).save(tmp_path / "set" / "square" / f"{n}.png")
    return tmp_path / "set"


def test_a_row_for_each_part(folder, tmp_path, capsys):
    config, output = tmp_path / "tiny.yaml", tmp_path / "table.json"
    opts = "MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead", f"{R}CUT", 0.9, f"{R}CELLS", 24
    config.write_text(tiny_config(*opts).dump())
    rows = ["whole", "no regions", "reference not whole"]
    arguments = ["--config-file", str(config), "--rows", *rows, "--output", str(output)]
    compare_heads.main([str(folder), *arguments])
    text, found = capsys.readouterr().out, json.loads(output.read_text())
    assert list(found) == rows and list(found["whole"]) == [str(folder)]
    for row in rows:
        value = found[row][str(folder)]["IoU"]
        assert f"| {row} | {value:.1f} | {value:.1f} |" in text
    with pytest.raises(SystemExit, match="error: no such folder"):
        compare_heads.main([str(tmp_path / "none"), *arguments])


def test_every_row_is_a_config():
    for opts in compare_heads.ROWS.values():
        load_config("segic_region.yaml", list(opts))
