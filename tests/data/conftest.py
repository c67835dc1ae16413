import pytest

from segic_d2.data import index


@pytest.fixture(autouse=True)
def own_label_cache(monkeypatch, tmp_path_factory):
    """What is learned about the tests' label maps does not go to the user's cache."""
    folder = tmp_path_factory.getbasetemp() / "label_cache"
    monkeypatch.setattr(index, "cache_folder", lambda: folder)
