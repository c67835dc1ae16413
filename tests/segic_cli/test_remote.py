"""A server of this machine gives the files."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from segic_cli.remote import fetch


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def address(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "a b.png").write_bytes(b"picture")
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_is_fetched_keeps_its_name(address, tmp_path):
    paths = [Path(fetch(f"{address}/a%20b.png?size=2", str(tmp_path))) for _ in range(2)]
    assert paths[0] != paths[1]
    for path in paths:
        assert (path.name, path.read_bytes()) == ("a b.png", b"picture")
        assert path.parent.name == "127.0.0.1" and tmp_path in path.parents


def test_other_places_stay(tmp_path):
    for place in ("a.jpg", "s3://bucket/a.jpg", "http.jpg"):
        assert fetch(place, str(tmp_path)) == place


def test_what_cannot_be_had_is_one_line(address, tmp_path, monkeypatch, caplog):
    with pytest.raises(FileNotFoundError, match=f"^{address}/no.png: HTTP Error 404: "):
        fetch(f"{address}/no.png", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="^http://127.0.0.1:9/a.png: .*refused"):
        fetch("http://127.0.0.1:9/a.png", str(tmp_path))
    monkeypatch.setenv("SEGIC_D2_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="a.png: SEGIC_D2_OFFLINE .* forbids the download"):
        fetch(f"{address}/a.png", str(tmp_path))
    assert not caplog.records
