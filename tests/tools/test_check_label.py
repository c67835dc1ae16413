"""Killed labelling, small; by hand 5,000 pictures and ten kills."""

import pytest

from check_label import files_of, growth, main


def test_files_are_compared_without_their_folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(f'{{"place": "{tmp_path / name}/x"}}')
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    (tmp_path / "b/report.json").write_text("{}")
    assert files_of(tmp_path / "a") != files_of(tmp_path / "b")


def test_growth_is_of_the_second_tenth_of_the_last_and_of_the_end():
    memory = [(i, 100.0 + i) for i in range(101)]
    assert growth(memory, 100) == (119.0, 199.0, 200.0)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_labelling_leaves_the_files_of_one_run(processes, capsys):
    assert main(["200", "--kills", "2", "--processes", str(processes)]) == 0
    assert "killed 2 times and continued: 0 of " in capsys.readouterr().out
