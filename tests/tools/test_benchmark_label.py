"""The table of labelling speed; timings themselves are not tested."""

from PIL import Image

import benchmark_label
from tests.engine.label.boxes import tiny_predictor


def test_the_table_has_a_row_for_each_run(capsys, monkeypatch):
    def tiny(name):
        return tiny_predictor()

    monkeypatch.setattr(benchmark_label.InContextPredictor, "from_pretrained", tiny)
    benchmark_label.main(["5", "--processes", "1"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    names = [row.split("|")[1].strip() for row in rows]
    assert names[2:] == ["the bare model", "predictor.predict", "label_folder, 1 process"]
    assert rows[2].split("|")[3].strip() == "1.00"


def test_photographs_have_one_size(tmp_path):
    benchmark_label.write_photographs(tmp_path / "in", 5)
    found = sorted((tmp_path / "in").iterdir())
    assert len(found) == 5 and {Image.open(f).size for f in found} == {(640, 480)}
