import numpy as np
import pytest
from PIL import Image

from segic_d2.io.prompts import to_marked
from segic_d2.predictor.marking import complete_masks, read_marked
from segic_d2.structures.picture import Picture
from segic_d2.structures.prompts import Marked
from tests.predictor.parts import H, W, not_asked, picture, square


def cut_out(path, shown=None):
    shown = square() if shown is None else shown
    rgba = np.dstack([picture(0) // 3, shown * np.uint8(255)])
    Image.fromarray(rgba).save(path)
    return path


def test_a_cut_out_is_its_own_mask(tmp_path):
    path = cut_out(tmp_path / "cut.png")
    array = np.array(Image.open(path))
    image = Image.open(path)
    pairs = (path, None), (path, path), (path, str(path)), (array, array), (image, image)
    for source, mask in pairs:
        marked = read_marked(source, mask, picture(0))
        assert list(marked) == [1]
        np.testing.assert_array_equal(marked[1].inside, square())
        assert not marked[1].open.any()
    own = read_marked(path, square(x=0), picture(0))[1]  # a mask goes first
    np.testing.assert_array_equal(own.inside, square(x=0))


def test_a_picture_is_not_its_own_mask(tmp_path):
    shown = picture(0)
    Image.fromarray(shown).save(tmp_path / "a.png")
    Image.fromarray(shown).save(tmp_path / "copy.png")
    for mask in (tmp_path / "a.png", tmp_path / "copy.png", shown, shown.copy()):
        with pytest.raises(ValueError, match="mask is the image itself, no part of which is"):
            read_marked(tmp_path / "a.png", mask, shown)
    with pytest.raises(ValueError, match="mask is missing, and no part of the image is trans"):
        read_marked(tmp_path / "a.png", None, shown)
    drawing = np.repeat(square()[..., None] * np.uint8(255), 3, -1)
    for mask in (drawing, drawing.copy()):  # in black and white
        np.testing.assert_array_equal(read_marked(drawing, mask, drawing)[1].inside, square())


def test_what_is_open_is_completed_and_what_is_sure_stays(tmp_path):
    inside, outside = np.zeros((2, H, W), dtype=bool)
    inside[5], outside[50] = True, True
    marks = {1: Marked(inside, outside), 2: Marked.of_mask(square()), 3: Marked(inside, ~inside)}
    asked = []

    def complete(picture, marked):
        asked.append((picture, marked))
        return square(y=40) & ~inside  # reaches over the outside, leaves the inside out

    shown = Picture(picture(0))
    masks = complete_masks(shown, marks, {3: "c", 1: None, 2: "b"}, complete)
    assert list(masks) == [3, 1, 2] and [(p, m) for p, m in asked] == [(shown, marks[1])]
    np.testing.assert_array_equal(masks[1], (square(y=40) | inside) & ~outside)
    np.testing.assert_array_equal(masks[2], square())
    np.testing.assert_array_equal(masks[3], inside)
    complete_masks(shown, marks, {2: None}, not_asked)  # the open one is not asked for


def test_points_on_other_things_are_beside_this_one():
    """Of other names, and of ids without one; whole masks may be parts of a thing."""
    point = lambda x: to_marked({"points": [[x, 3]]}, (H, W))[1]  # noqa: E731
    marks = {1: point(10), 2: point(20), 3: point(30), 4: point(40), 5: Marked.of_mask(square())}
    told = {}

    def complete(_, marked):
        told[int(np.flatnonzero(marked.inside)[0]) % W] = marked.outside
        return np.ones((H, W), dtype=bool)

    names = {1: "a", 2: "b", 3: "a", 4: None, 5: "c"}
    masks = complete_masks(Picture(picture(0)), marks, names, complete)
    for x, others in ((10, [20, 40]), (20, [10, 30, 40]), (30, [20, 40]), (40, [10, 20, 30])):
        expected = np.zeros((H, W), dtype=bool)
        expected[3, others] = True
        np.testing.assert_array_equal(told[x], expected)
    assert masks[1][3, 30] and not masks[1][3, 20]  # whatever the model says
    both = {1: point(10), 2: point(10)}  # of a pixel that is said to be both, nothing is taken
    complete_masks(Picture(picture(0)), both, {1: "a", 2: "b"}, complete)
    assert not told[10].any()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((H, W)), r"mask is float64 \(60, 90\), not bool \(60, 90\)"),
        (np.zeros((W, H), bool), r"mask is bool \(90, 60\), not bool \(60, 90\)"),
        (np.zeros((H, W), bool), r"mask of id 4 \('cat'\) is empty: the model finds nothing in"),
    ],
)
def test_bad_answers(answer, message):
    nothing = np.zeros((H, W), dtype=bool)
    marks = {3: Marked.of_mask(square()), 4: Marked(nothing, square())}
    with pytest.raises(ValueError, match=message):
        complete_masks(Picture(picture(0)), marks, {4: "cat"}, lambda *_: answer)


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ("grey 2", "the values 0, 2"),
        ("grey 127", "the values 0, 127"),
        ("black", "the values 0"),
        ("zeros", "the values 0.0"),
        ("npy", None),
    ],
)
def test_an_empty_mask_names_its_values(tmp_path, form, values):
    mask = square().astype(np.uint8)
    if form == "zeros":
        source = np.zeros((H, W))
    elif form == "npy":
        np.save(source := tmp_path / "mask.npy", np.zeros((H, W)))
    else:
        source = tmp_path / "mask.png"
        Image.fromarray(mask * int(form.split()[-1].replace("black", "0"))).save(source)
    marked = read_marked(picture(0), source, picture(0))
    told = f": it has {values}" if values else ""
    with pytest.raises(ValueError, match=f"mask is empty .*names by id\\){told}$"):
        complete_masks(Picture(picture(0)), marked, {1: None}, not_asked, source)
