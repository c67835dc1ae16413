"""The tool that measures how a large COCO file loads."""

import sys

import pytest

import benchmark_load


@pytest.mark.medium
@pytest.mark.parametrize(("limit", "status"), [("60", 0), ("0.0001", 1)])
def test_the_table_and_the_limits(capsys, monkeypatch, limit, status):
    words = ["--pictures", "12", "--limit-seconds", limit, "--limit-gb", "8"]
    monkeypatch.setattr(sys, "argv", ["benchmark_load.py", *words])
    assert benchmark_load.main() == status
    last = capsys.readouterr().out.splitlines()[-1].split("|")
    assert [cell.strip() for cell in last[1:3]] == ["12", "120"]
