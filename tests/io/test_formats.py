"""Pictures by their names, and what an installation lacks to read them."""

import logging
import sys

import numpy as np
import pytest
from PIL import Image, features

from segic_d2.io import formats
from segic_d2.io.names import list_pictures
from segic_d2.io.pictures import read_image


@pytest.fixture
def without_heif(monkeypatch):
    """As where pillow-heif is not installed."""
    known = {k: v for k, v in Image.registered_extensions().items() if "hei" not in k}
    monkeypatch.setattr(Image, "registered_extensions", lambda: known)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    yield formats._known.cache_clear(), formats.lacking.cache_clear()
    formats._known.cache_clear()
    formats.lacking.cache_clear()


def test_what_cannot_be_read_is_counted(without_heif, tmp_path, caplog):
    for name in ("a.HEIC", "b.heic", "c.heif", "d.png", "e.jfif", "f.txt"):
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        found = list_pictures([tmp_path])
    assert [path.name for path in found] == ["d.png", "e.jfif"]
    assert [r.getMessage() for r in caplog.records] == [
        "2 files of .heic were passed over: pip install pillow-heif",
        "1 file of .heif was passed over: pip install pillow-heif",
    ]
    with pytest.raises(ValueError, match="cannot read image .*a.HEIC: pip install pillow-heif"):
        read_image(tmp_path / "a.HEIC")


def test_an_old_pillow_says_what_it_lacks(without_heif, monkeypatch):
    known = {k: v for k, v in Image.registered_extensions().items() if k != ".avif"}
    monkeypatch.setattr(Image, "registered_extensions", lambda: known)
    monkeypatch.setattr(features, "check_codec", lambda name: False)
    assert formats.lacking(".avif") == "pip install 'pillow>=11.3'"
    assert formats.lacking(".JP2") == "install a Pillow with OpenJPEG"

    assert formats.lacking(".png") == formats.lacking(".txt") == ""


@pytest.mark.parametrize("suffix", formats.IMAGE_SUFFIXES)
def test_every_format_is_read(suffix, tmp_path):
    if formats.lacking(suffix):
        pytest.skip(formats.lacking(suffix))
    picture = np.full((40, 64, 3), 90, np.uint8)
    picture[:, 32:] = 200
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(path)
    assert list_pictures([tmp_path]) == [path]
    assert np.abs(read_image(path).astype(int) - picture)[:, [*range(28), *range(36, 64)]].max() < 9


def test_suffixes_of_addresses():
    assert formats.suffix_of("https://x.org/a.PNG?b=.jpg") == ".png"
    assert formats.suffix_of("https://[x/a.JSON") == ".json"  # no address
