"""The tool that writes the statistics of features over photographs."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import compute_whitening
from tests.tiny import tiny_config


def test_statistics_of_a_folder_are_what_the_head_takes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for name in ("a", "b"):  # the same picture twice
        Image.fromarray(pixels).save(tmp_path / f"{name}.bmp")
    Image.fromarray(pixels[:40].copy()).save(tmp_path / "c.bmp")
    Image.new("L", (80, 60)).save(tmp_path / "a_mask.png")
    config, file = tmp_path / "tiny.yaml", tmp_path / "w.safetensors"
    config.write_text(tiny_config("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead").dump())
    torch.manual_seed(0)
    compute_whitening.main([str(tmp_path), str(file), "--config-file", str(config)])
    assert "statistics of 2 pictures" in capsys.readouterr().out
    found = load_file(file)
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        "mean": (1, 24),
        "variances": (1, 24),
        "axes": (1, 24, 24),
    }
    assert (found["variances"] >= 0).all() and found["variances"][0].diff().min() >= 0
    with pytest.raises(SystemExit, match="error: no pictures"):
        (tmp_path / "empty").mkdir()
        compute_whitening.main([str(tmp_path / "empty"), str(file), "--config-file", str(config)])
