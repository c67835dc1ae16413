import os

import pytest

from segic_cli import checks


def test_numbers():
    read = checks.number(0, 1)
    assert (read("0.25"), read("1"), checks.number()("-7")) == (0.25, 1, -7)
    assert read.__name__ == "number from 0 to 1" and checks.number().__name__ == "number"
    for text in ("nan", "1.5", "-0.1", "x", "inf"):
        with pytest.raises(ValueError):
            read(text)
    assert checks.count("3") == 3
    for text in ("0", "-1", "1.5"):
        with pytest.raises(ValueError):
            checks.count(text)


def test_files(tmp_path):
    (tmp_path / "a").touch()
    there = str(tmp_path / "a")
    checks.need_files("--input", [there, "https://example.org/b", "HTTP://c"], web=True)
    for place, web, message in (
        ("ftp://z/a.jpg", True, "of addresses, only http:// and https:// are read"),
        ("https://example.org/b", False, "a file of this machine is asked for"),
    ):
        with pytest.raises(checks.UsageError, match=f"^--input {place}: {message}$"):
            checks.need_files("--input", [there, place], web=web)
    checks.need_files("--input", [str(tmp_path)], folders=True)
    with pytest.raises(FileNotFoundError, match="^--input: no such file: b, /c$"):
        checks.need_files("--input", ["b", there, "/c", "b"])
    with pytest.raises(FileNotFoundError, match="no such file"):
        checks.need_files("--input", [str(tmp_path)])


def test_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checks.need_folder("--output", tmp_path / "new" / "folder")
    checks.need_folder("--output", "here")
    assert not any(tmp_path.iterdir())  # they are looked at, not made
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=r"^--output file/x: .*/file is no folder$"):
        checks.need_folder("--output", "file/x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=r"^--output x: .* cannot be written$"):
        checks.need_folder("--output", "x")


def test_weights_and_pairs(tmp_path):
    for weights in (None, "", "segic-demo", "https://example.org/a.pth", "segic://demo"):
        checks.need_weights(weights)
    with pytest.raises(FileNotFoundError, match="^--weights: no such file: a.safetensors$"):
        checks.need_weights("a.safetensors")
    checks.need_pairs(["SEED", "1"])
    with pytest.raises(checks.UsageError, match="^--opts SEED: expected KEY VALUE pairs$"):
        checks.need_pairs(["SEED"])


def test_results_are_written_over_results_alone(tmp_path):
    file = tmp_path / "figures.json"
    checks.need_own("--output", str(file), {"results"})
    file.write_text('{"results": {}, "shots": 1}')
    checks.need_own("--output", str(file), {"results", "shots"})
    for text in ('{"images": []}', "[1]", "no JSON", "[" * 99999):
        file.write_text(text)
        with pytest.raises(checks.UsageError, match="^--output .*figures.json: it is there alr"):
            checks.need_own("--output", str(file), {"results"})
