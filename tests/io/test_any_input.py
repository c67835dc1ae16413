"""Whatever is given as a mask, a prompt, a picture or an annotation file means what it says, or is
refused with one line that names it; nothing else happens.

python -m tests.io.test_any_input SEED NUMBER
"""

import json
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from segic_d2.io.annotations import read_annotations
from segic_d2.io.masks import to_masks
from segic_d2.io.pictures import to_cut_out, to_picture
from segic_d2.io.prompts import to_marked
from segic_d2.utils.texts import printable
from tests.io.annotations import parts
from tests.io.annotations.test_odd_files import exports
from tests.io.anything import SIZE, File, arrays, changed, files, values

SECONDS, BYTES = 10, 2**30  # of one example at most, and of memory that all of a kind take
LONGEST = 6000  # characters of a message; names of 5000 are drawn
ARGUMENTS = "mask", "image", "box", "points", "polygon", "scribble"  # that a message names
TOKENS = ["nan", "-1", "1e309", "2147483648", "18446744073709551616", "9" * 5000, "a&#10;b", "$x$"]
TOKENS += ["", "null", "[1]", "{a: 1, 0: b}", "2001-99-99", "!!bool x", "!!float a", "1_0", "300"]
TOKENS += ["\x07", "&#x1;", "x" * 300, "\u0663", "\ud7ff", "4611686018427387904", "0.5"]
TOKENS += ["<a/>", "-", "{0: a, b: c}", "0,0,281474976710656"]
IGNORED = 0, 255, 65535


def refused(error, *names):
    """That an error is one line which names what is wrong."""
    text = str(error)
    text.encode()
    assert text.isprintable() and len(text) < LONGEST, text
    assert any(printable(name) in text for name in names), (names, text)
    return "refused"


def placed(given, folder, suffix=".json"):
    """(what is given: the path of a file that is written here, the names it may have)."""
    if isinstance(given, File):
        path = folder / given.name
        path.write_bytes(given.data)
        return path, (str(path),)
    return given, (given or "''",) if isinstance(given, str) else ARGUMENTS


def by_value(labels):
    """{id: its pixels} of a label map, the obvious way."""
    ids = sorted(set(labels.ravel().tolist()) - set(IGNORED))
    found = {i: np.array([[v == i for v in row] for row in labels.tolist()]) for i in ids}
    return found or {1: labels > 0}


def meaning_of_file(file, as_ids):
    """``meaning`` of a file."""
    shown, mode = file.shown, file.mode
    if shown is None:
        return None
    if file.name.endswith((".txt", ".npy", ".json")) or shown.shape[:2] != SIZE:
        return "refused"
    if as_ids and mode in ("L", "I;16", "I", "F"):
        exact = (shown == np.rint(shown)) & (shown >= 0) & (shown < 2.0**31)
        return by_value(shown.astype(np.int64)) if exact.all() else "refused"
    if not as_ids and (mode == "1" or (mode == "L" and set(np.unique(shown)) <= {0, 255})):
        return {1: shown > 0}
    return None


def meaning(given, as_ids):
    """{id: mask} that a plain array or whole file can only mean; "refused": nothing; None: it
    depends."""
    if isinstance(given, torch.Tensor) and given.layout == torch.strided and not given.is_meta:
        given = given.detach().double().numpy() if given.is_floating_point() else given.numpy()
    if isinstance(given, File):
        return meaning_of_file(given, as_ids)
    if not isinstance(given, np.ndarray) or given.shape[-2:] != SIZE or given.ndim > 3:
        return None
    kind = given.dtype.kind
    if kind == "f" and ((given >= 0) & (given <= 1)).all():
        given, kind = given >= 0.5, "b"
    if kind in "biu" and given.ndim == 3:
        if not len(given):
            return "refused"
        return {i: one > 0 for i, one in enumerate(given, 1)}
    if kind == "b":
        return {1: given}
    exact = kind in "iu" and 0 <= given.min() <= given.max() < 2**31
    return by_value(given) if exact else "refused"


def check_masks(example, folder):
    given, as_ids = example
    mask, names = placed(given, folder)
    expected = meaning(given, as_ids)
    try:
        found = to_masks(mask, SIZE, as_ids)
    except (ValueError, OSError) as error:
        assert not isinstance(expected, dict), error
        return refused(error, *names)
    assert expected != "refused" and list(found) == sorted(found)
    for i, one in found.items():
        assert type(i) is int and i > 0 and one.dtype == bool and one.shape == SIZE
    if expected is not None:
        assert list(found) == list(expected)
        assert all((found[i] == expected[i]).all() for i in found)
    return "taken"


def check_prompts(example, folder):
    names, prompt = (*ARGUMENTS, "pixel ", "no such file: ", "cannot read ", "https:"), example
    if isinstance(example, dict) and set(example) == {"file"}:
        prompt = folder / "a.json"
        prompt.write_text(json.dumps(example["file"]))
        names += (str(prompt),)
    try:
        found = to_marked(prompt, SIZE)
    except (ValueError, OSError) as error:
        return refused(error, *names)
    for one in found.values():
        assert one.inside.shape == one.outside.shape == SIZE and one.inside.dtype == bool
        assert not (one.inside & one.outside).any()
    return "taken"


def check_rectangles(example, folder):
    """Rectangles, as one polygon each, are what they enclose, in and outside of the picture."""
    rings = [[x0, y0, x1, y0, x1, y1, x0, y1] for x0, y0, x1, y1 in example]
    expected = np.zeros(SIZE, bool)
    for x0, y0, x1, y1 in example:
        for y in range(max(y0, 0), min(y1, SIZE[0])):
            for x in range(max(x0, 0), min(x1, SIZE[1])):
                expected[y, x] = True
    if all(0 <= v <= 1 for ring in rings for v in ring):
        with pytest.raises(ValueError, match="all corners of the mask are in the first pixel"):
            to_masks(rings, SIZE)
        return "empty"
    np.testing.assert_array_equal(to_masks(rings, SIZE)[1], expected)
    return "taken" if expected.any() else "empty"


def check_pictures(example, folder):
    picture, names = placed(example, folder)
    try:
        found = to_picture(picture)
        to_cut_out(picture)
    except (ValueError, OSError) as error:
        whole = isinstance(example, File) and example.shown is not None
        assert not (whole and example.mode in ("1", "L", "P", "RGB", "RGBA", "I", "I;16")), error
        return refused(error, *names)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size
    assert found.flags.writeable and found.flags.c_contiguous
    if isinstance(example, File) and example.shown is not None:
        looks(found, example)
    return "taken"


def looks(found, file):
    """That a picture looks as what its file shows."""
    shown = file.shown
    if file.mode in ("1", "L"):
        np.testing.assert_array_equal(
            found, np.dstack([np.uint8(shown * (1 + 254 * (file.mode == "1")))] * 3)
        )
    elif file.mode == "P":
        np.testing.assert_array_equal(found, file.palette[shown])
    elif file.mode == "RGB":
        np.testing.assert_array_equal(found, shown)
    elif file.mode == "RGBA":
        share = shown[..., 3:] / 255
        assert np.abs(found - (shown[..., :3] * share + 255 * (1 - share))).max() <= 1
    elif file.mode in ("I", "I;16"):  # brighter is brighter
        order = np.argsort(shown.ravel(), kind="stable")
        assert (np.diff(found[..., 0].ravel()[order].astype(int)) >= 0).all()


@st.composite
def odd_exports(draw, forms):
    """(name, file, its bytes) of a whole export of which one file is odd."""
    name, file, contents, whole = draw(st.sampled_from(forms))
    if contents is not None:
        text = json.dumps(draw(changed(draw(st.sampled_from(contents)))))
        return name, file, File(file.name, text.encode())
    if file.suffix == ".png":
        return name, file, draw(files(parts.SIZE))
    text = whole.decode()
    for _ in range(draw(st.integers(1, 2))):
        spans = [m.span() for m in re.finditer(r'(?<==")[^"]*(?=")|[\w.+-]+', text)]
        start, end = draw(st.sampled_from(spans))
        text = text[:start] + draw(st.sampled_from(TOKENS)) + text[end:]
    return name, file, File(file.name, text.encode())


def all_exports(folder):
    forms = list(exports(folder))
    return odd_exports([(name, file, what, file.read_bytes()) for name, file, what in forms])


def shows_ids(picture, labels, file):
    """That a picture of one map shows its ids, one class each, and nothing else."""
    if Path(picture.file_name).stem == file.stem and picture.size == labels.shape:
        expected = {i: labels == i for i in np.unique(labels).tolist() if i not in IGNORED}
        for (i, mask), found in zip(expected.items(), picture.masks().values(), strict=True):
            np.testing.assert_array_equal(found, mask, f"{i} of {file}")


def check_exports(example, folder):
    name, file, odd = example
    whole = file.read_bytes()
    file.write_bytes(odd.data)
    try:
        found = read_annotations(name)
        for fault in found.faults:
            refused(fault, str(folder))
        for picture in found:
            for label, mask in picture.masks().items():
                assert isinstance(label, str) and mask.dtype == bool and mask.shape == picture.size
            if odd.shown is not None and odd.mode in ("L", "I;16", "I"):
                shows_ids(picture, odd.shown, file)
    except (ValueError, OSError) as error:
        return refused(error, str(folder))
    finally:
        file.write_bytes(whole)
    return "faulty" if found.faults else "taken"


corners = st.integers(-6, 9)
rectangles = st.tuples(corners, corners, st.integers(1, 12), st.integers(1, 12))
rectangles = rectangles.map(lambda r: (r[0], r[1], r[0] + r[2], r[1] + r[3]))
KINDS = {  # kind → its strategy in a folder, its property, its share
    "masks": (
        lambda _: st.tuples(arrays() | arrays() | files() | files() | values, st.booleans()),
        check_masks,
        0.3,
    ),
    "prompts": (lambda _: values | st.builds(lambda v: {"file": v}, values), check_prompts, 0.15),
    "rectangles": (lambda _: st.lists(rectangles, min_size=1, max_size=3), check_rectangles, 0.05),
    "pictures": (lambda _: arrays() | files() | files() | files(), check_pictures, 0.2),
    "exports": (all_exports, check_exports, 0.3),
}


def run(kind, number, start):
    """{what became of it: how many} of a share of ``number`` examples."""
    strategy, check, share = KINDS[kind]
    counts, before = Counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:

        @seed(start)
        @settings(
            max_examples=round(number * share),
            database=None,
            deadline=timedelta(seconds=SECONDS),
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy(Path(folder)))
        def one(example):
            counts[check(example, Path(folder))] += 1

        one()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < BYTES, f"{grown >> 20} MiB"
    return dict(counts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_input(kind):
    counts = run(kind, 1000, 0)
    assert len(counts) > 1 and min(counts.values()) > 5, counts


if __name__ == "__main__":
    for name in KINDS:
        began = time.time()
        print(name, run(name, int(sys.argv[2]), int(sys.argv[1])), f"{time.time() - began:.0f} s")
