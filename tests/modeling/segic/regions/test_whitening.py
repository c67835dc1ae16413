"""Whitened features against the formula, cell by cell; statistics in and out of files."""

import numpy as np
import pytest
import torch

from segic_d2.modeling.segic.regions import whitening as module
from segic_d2.modeling.segic.regions.whitening import (
    Whitening,
    compute_statistics,
    load_statistics,
    save_statistics,
)
from tests.modeling.segic.parts import build

IMAGES = [
    torch.randint(0, 256, (3, 84, 112), generator=torch.Generator().manual_seed(i)) for i in (0, 1)
]


def statistics(groups=2, width=6, seed=0):
    cells = torch.randn(groups, 50, width, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    mean = cells.mean(1)
    centred = cells - mean[:, None]
    variances, axes = torch.linalg.eigh(centred.transpose(1, 2) @ centred / 50)
    return {"mean": mean, "variances": variances, "axes": axes}


def test_units_follow_the_formula():
    held, features = statistics(), torch.randn(1, 14, 5)  # two channels too many
    found = Whitening(2, 12, **held).units(features)[0]
    for cell in range(5):
        for g in range(2):
            x = features[0, 6 * g : 6 * g + 6, cell].numpy() - held["mean"][g].numpy()
            e, v = held["variances"][g].numpy(), held["axes"][g].numpy()
            x = np.array([x @ v[:, i] * (e[i] + 0.1 * e.mean()) ** -0.1 for i in range(6)])
            x /= np.linalg.norm(x) * 2**0.5
            np.testing.assert_allclose(found[cell, 6 * g : 6 * g + 6], x, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(5))


def test_without_whitening_cosines_are_those_of_the_centred_groups():
    held, features = statistics(), torch.randn(1, 12, 5)
    found = Whitening(2, 12, **held).units(features, whiten=False)[0]
    parts = features[0].unflatten(0, (2, 6)) - held["mean"][:, :, None]
    cosines = [torch.cosine_similarity(p[:, :, None], p[:, None], dim=0) for p in parts]
    torch.testing.assert_close(found @ found.T, torch.stack(cosines).mean(0))
    raw = Whitening(1, 12).units(features)[0]
    torch.testing.assert_close(raw, torch.nn.functional.normalize(features[0].T, dim=1))


def test_statistics_are_those_of_all_cells_and_survive_a_file(tmp_path):
    model = build("MODEL.SEM_SEG_HEAD.NAME", "RegionMatchingHead")
    found = compute_statistics(model, [x.byte() for x in IMAGES], 2, 24)
    maps = model.encode_images([x.byte() for x in IMAGES]).map[:, :, :6]  # 84 px are six rows
    cells = maps.transpose(0, 1).flatten(1).double().unflatten(0, (2, 12))
    torch.testing.assert_close(found["mean"], cells.mean(2).float())
    for g in range(2):
        covariance = (found["axes"][g] * found["variances"][g]) @ found["axes"][g].T
        torch.testing.assert_close(
            covariance, torch.cov(cells[g], correction=0).float(), atol=1e-5, rtol=1e-4
        )
    save_statistics(found, tmp_path / "s.safetensors")
    again = load_statistics(str(tmp_path / "s.safetensors"), 2, 24)
    for name, values in zip(module.NAMES, again, strict=True):
        torch.testing.assert_close(values, found[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="no pictures"):
        compute_statistics(model, [], 2, 24)


def test_files_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="REGIONS.WHITENING .*nothing: no such file"):
        load_statistics(str(tmp_path / "nothing"), 2, 12)
    (tmp_path / "bad").write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no statistics"):
        load_statistics(str(tmp_path / "bad"), 2, 12)
    with pytest.raises(ValueError, match=r"is for \(2, 384\) groups and channels; .* \(2, 12\)"):
        load_statistics("embedded", 2, 24)


def test_the_shipped_statistics_are_of_two_blocks():
    mean, variances, axes = load_statistics("embedded", 2, 768)
    assert mean.shape == variances.shape == (2, 384) and (variances > 0).all()
    torch.testing.assert_close(
        axes @ axes.transpose(1, 2), torch.eye(384).expand(2, -1, -1), atol=2e-2, rtol=0
    )
