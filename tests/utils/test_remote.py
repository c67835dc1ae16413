"""A host is asked once, quickly, and what a cache holds is not asked for."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from segic_d2.utils import remote


@pytest.fixture(autouse=True)
def online(monkeypatch):
    for name in ("SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "PATIENCE", 0.5)


class Refuses(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_error(401)

    def do_GET(self):
        if self.path == "/a.png" and "Python" not in self.headers["User-Agent"]:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"picture")
        else:
            self.send_error(404)


def test_a_server_that_answers_is_reachable_whatever_it_says():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.pkl"
    assert remote.unreachable(url) == ""
    server.shutdown()
    server.server_close()
    assert "refused" in remote.unreachable(url)


def test_downloads():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    assert remote.download(f"{url}/a.png") == b"picture"
    with pytest.raises(FileNotFoundError, match=f"^{url}/b.png cannot be fetched: .*404"):
        remote.download(f"{url}/b.png")
    server.shutdown()
    server.server_close()
    with pytest.raises(FileNotFoundError, match=f"^{url}/a.png cannot be fetched: .*refused"):
        remote.download(f"{url}/a.png")


class Endless(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(200):
            self.wfile.write(b"x" * 1000)
            time.sleep(0.01)

    do_HEAD = Refuses.do_HEAD


@pytest.mark.parametrize(
    ("bound", "value", "message"),
    [
        ("LARGEST", 2**20 // 16, "it has more than 0 MB"),
        ("LONGEST", 0.3, "it takes more than 0.3 s"),
    ],
)
def test_a_download_without_end_ends(monkeypatch, bound, value, message):
    monkeypatch.setattr(remote, bound, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endless)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.png"
    with pytest.raises(FileNotFoundError, match=f"^{url} cannot be fetched: {message}"):
        remote.download(url)
    server.shutdown()


def test_web_addresses_are_strings():
    assert remote.is_web_address("HTTPS://a.b/c") and remote.is_web_address("http://a")
    assert not any(map(remote.is_web_address, ("a.jpg", "httpx://a", Path("http://a"), 5, None)))


def test_a_server_that_is_silent_is_left_soon():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.perf_counter()
        reason = remote.unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}/a.pkl")
        assert time.perf_counter() - started < 2
    assert "timed out" in reason or reason == "no answer within 0.5 s"


def test_a_name_server_that_is_silent_is_left_soon(monkeypatch):
    released = threading.Event()

    def silent(*args, **kwargs):
        released.wait(30)
        raise socket.gaierror("no name server")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    assert remote.unreachable("https://example.org/a.pkl") == "no answer within 0.5 s"
    released.set()


@pytest.mark.parametrize("switch", ["SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_asks_nobody(monkeypatch, switch):
    monkeypatch.setenv(switch, "1")
    monkeypatch.setattr(remote.urllib.request, "urlopen", lambda *a, **k: pytest.fail("asked"))
    assert "forbids the download" in remote.unreachable("https://example.org/a.pkl")


def test_what_the_hubs_cache_holds_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(remote, "unreachable", lambda url: f"asked for {url.rpartition('/')[2]}")
    files = ["model.safetensors", "pytorch_model.bin"]
    missing = remote.missing_on_hub("a/b", files)
    assert missing == "a/b is not in the hub's cache; asked for model.safetensors"
    snapshot = tmp_path / "models--a--b/snapshots/0123"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--a--b/refs").mkdir()
    (tmp_path / "models--a--b/refs/main").write_text("0123")
    assert remote.missing_on_hub("a/b", files) == missing
    (snapshot / "pytorch_model.bin").touch()
    assert remote.missing_on_hub("a/b", files) == ""


def test_an_address_that_is_none_is_said_at_once():
    with pytest.raises(FileNotFoundError, match=r"https://\[x/a cannot be fetched: Invalid IPv6"):
        remote.download("https://[x/a")
