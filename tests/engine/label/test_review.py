"""The table and the page of doubtful pictures."""

import base64
import csv
import io
import re

import numpy as np
from PIL import Image

from segic_d2.engine.label.review import SHOWN, Row, class_masks, contact_sheet, csv_text
from segic_d2.engine.label.state import Place
from segic_d2.io.rle import encode
from tests.engine.label.boxes import draw, write_pictures


def row(file, doubt=0.0, error="", given=False):
    return Row(Place(file, 0, 0), doubt, doubt, "cat 0.43", 1, 0.43, error, given)


def test_the_order_is_unreadable_then_doubtful_then_given():
    rows = [row("a", 0.2), row("b", 0.9), row("c", given=True), row("d", error="broken"), row("e")]
    rows.sort(key=Row.rank)
    assert [r.place.file for r in rows] == ["d", "b", "a", "e", "c"]
    assert [r.doubtful for r in rows] == [False, True, False, False, False]


def test_csv_is_one_line_for_each_whatever_its_name():
    names = ["plain.png", 'with "quotes", and commas.png', "two\nlines.png", "\udcff.png"]
    text = csv_text([row(name) for name in names])
    table = list(csv.DictReader(io.StringIO(text)))
    assert len(text.splitlines()) == 5 and [r["rank"] for r in table] == ["1", "2", "3", "4"]
    assert table[1]["file"] == names[1] and "\\udcff" in table[3]["file"]
    text.encode()


class Shown:
    """A round of one picture, again and again."""

    number = 1

    def __init__(self, file):
        pixels, mask = draw(0)
        self.file, self.mask = str(file), mask

    def record(self, place):
        things = [[0, 0.43, encode(self.mask)["counts"]]]
        return {"file": self.file, "size": [60, 80], "names": ["<b>"], "things": things}


def test_the_page_shows_the_first_hundred_and_escapes_names(tmp_path):
    folder = write_pictures(tmp_path / "in", 1)
    file = (folder / "0000.png").rename(folder / "<i>.png")
    rows = [row(str(file), 0.9) for _ in range(SHOWN + 20)] + [row("lost", error="broken")]
    page = contact_sheet(Shown(file), rows, ["a", "<b>"])
    assert page.count("<figure>") == SHOWN and "<i>" not in page and "&lt;i&gt;.png" in page
    data = re.search(r"base64,([^\"]+)", page)[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == (60, 80, 3)
    assert not np.allclose(shown, draw(0)[0], atol=60)  # painted
    file.unlink()
    assert contact_sheet(Shown(file), rows, ["a", "<b>"]).count("&lt;i&gt;.png") == SHOWN


def test_class_masks_are_unions():
    a, b = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    a[0, 0], b[3, 4] = True, True
    things = [[1, 0.5, encode(m)["counts"]] for m in (a, b)]
    found = class_masks({"size": [4, 5], "names": ["x", "y"], "things": things})
    assert list(found) == ["y"] and np.array_equal(found["y"], a | b)
