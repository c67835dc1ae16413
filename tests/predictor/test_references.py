import json

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.predictor import InContextPredictor
from segic_d2.predictor.references import read_references
from tests.io.test_masks import palette_image
from tests.predictor.parts import H, W, picture, read_masked, square
from tests.tiny import tiny_config
from tests.toy_model import MeanColour


def entities(predictor, references):
    """(names, ids) of the entities, and the reference entries with their entity ids."""
    read, names = read_masked(references, predictor.model)
    return names, [r["entity_ids"].tolist() for r in read]


def test_names_are_one_line_that_can_be_written(predictor):
    references = [(picture(0), square(), name) for name in ("a\nb\x1b[31m", "a b�[31m", "\ud800")]
    assert entities(predictor, references) == ({1: "a b�[31m", 2: "�"}, [[1], [1], [2]])


def test_entities_by_name_then_by_id(predictor):
    a, mask = picture(0), square()
    ids = np.zeros((H, W), dtype=np.uint8)
    ids[:20], ids[30:40], ids[50:] = 1, 4, 9
    label = palette_image(ids)
    found = lambda *refs: entities(predictor, refs)  # noqa: E731
    assert found((a, mask, "cat"), (a, mask, "dog"), (a, mask, "cat")) == (
        {1: "cat", 2: "dog"},
        [[1], [2], [1]],
    )
    assert found((a, mask), (a, mask)) == ({1: None}, [[1], [1]])
    assert found((a, label)) == ({1: None, 4: None, 9: None}, [[1, 4, 9]])
    # nameless: the same id is the same entity, a binary mask has id 1
    assert found((a, label), {"image": a, "mask": mask}) == (
        {1: None, 4: None, 9: None},
        [[1, 4, 9], [1]],
    )
    # the first entity with an id keeps it, and the next one gets what is free
    assert found((a, mask, "cat"), (a, label, {1: "dog", 4: "cat", 9: "emu"})) == (
        {1: "cat", 2: "dog", 9: "emu"},
        [[1], [2, 1, 9]],
    )
    assert found((a, label, ["x", "y", "z"])) == ({1: "x", 4: "y", 9: "z"}, [[1, 4, 9]])
    assert found((a, label, {9: "emu"})) == ({9: "emu"}, [[9]])
    assert found((a, label, {9: None})) == ({9: None}, [[9]])


def test_two_ids_of_one_name_are_one_mask(predictor):
    ids = np.zeros((H, W), dtype=np.int64)
    ids[:20], ids[30:40] = 1, 2
    read, _ = read_masked(
        [(picture(0), ids, {1: "a", 2: "a"}), (picture(0), ids > 0, "a")], predictor.model
    )
    assert read[0]["masks"].shape[0] == 1
    assert torch.equal(read[0]["masks"], read[1]["masks"])


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (("cat.png", "cat_mask.png", 3), ValueError, r"cat_mask.png\): mask: names 3 are neither"),
        (("absent.png", "cat_mask.png"), FileNotFoundError, r"2 \(.*absent.png\): image: no such"),
        (("cat.png", "absent.png"), FileNotFoundError, r"2 \(.*absent.png\): mask: no such"),
        (("text.png", "cat_mask.png"), ValueError, r"2 \(.*text.png\): image: cannot read"),
        (("cat.png", "text.png"), ValueError, r"2 \(.*text.png\): mask: cannot read"),
        (("cat.png", "empty.png"), ValueError, r"2 \(.*empty.png\): mask is empty"),
        (("cat.png", "small.png"), ValueError, r"small.png\): mask is 8x9 px, .* is 90x60 px"),
        (("cat.png", "ids.png", "cat"), ValueError, r"ids.png\): mask has the ids 3, 5, the names"),
        (("cat.png", "ids.png", {4: "x"}), ValueError, r"mask has no id 4 \('x'\); it has 3, 5"),
        (("cat.png", "ids.png", {3: 7}), ValueError, "a name must be a string, not 7"),
        (("cat.png",), ValueError, r"2 \(.*cat.png\): mask is missing, and no part of the image"),
        (("cat.png", None, "cat"), ValueError, r"2 \(.*cat.png\): mask is missing"),
        (("cat.png", "cat.png"), ValueError, r"2 \(.*cat.png\): mask is the image itself"),
        ((), ValueError, r"reference 2: expected \(image, mask\)"),
        ({"image": "cat.png", "name": "cat"}, ValueError, "mask and names, not a dict with 'name'"),
        ({"mask": "cat_mask.png"}, ValueError, "mask and names, not a dict without 'image'"),
        ("cat.png", ValueError, "reference 2: expected"),
    ],
)
def test_bad_reference_is_named_and_loses_nothing(predictor, references, files, bad, kind, message):
    (files / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((H, W), np.uint8)).save(files / "empty.png")
    Image.fromarray(np.ones((9, 8), np.uint8)).save(files / "small.png")
    ids = np.zeros((H, W), dtype=np.uint8)
    ids[:20], ids[30:40] = 3, 5
    palette_image(ids).save(files / "ids.png")
    predictor.set_references(references)
    before = predictor.context
    if isinstance(bad, tuple):
        bad = tuple(files / b if isinstance(b, str) and "." in b else b for b in bad)
    with pytest.raises(kind, match=message):
        predictor.set_references([references[0], bad])
    assert predictor.context is before


def test_kinds_are_mixed_in_one_call(predictor, files):
    """What is open is the model's to say; here it says that all of it is the thing."""
    shown, below = picture(0), np.zeros((H, W), dtype=bool)
    Image.fromarray(np.dstack([shown, square() * np.uint8(255)])).save(files / "cut.png")
    below[30:] = True
    scribbled = {"scribble": [[0, 0], [W - 1, 0]], "negative": below}
    read, found = read_references(
        [
            (files / "cut.png",),
            (files / "cut.png", None, "cat"),
            {"image": files / "cut.png", "names": "cat"},
            (files / "cat.png", {"box": [20, 10, 50, 30]}, "cat"),
            (shown, (20, 10, 50, 30), "cat"),
            (shown, {"mask": files / "cat_mask.png"}, "cat"),
            (shown, [[20, 10, 50, 10, 50, 30, 20, 30]], "cat"),
            (shown, [{"points": [3, 4]}, scribbled], ["dog", "emu"]),
        ],
        predictor.model.input,
        lambda _, marked: marked.inside | marked.open,
    )
    assert found == {1: None, 3: "cat", 4: "dog", 2: "emu"}
    assert [r["entity_ids"].tolist() for r in read] == [[1], *[[3]] * 6, [4, 2]]
    (plain,), _ = read_masked([(shown, square())], predictor.model)
    for one in read[:7]:
        assert torch.equal(one["masks"], plain["masks"])
    dog, emu = np.ones((H, W), dtype=bool), ~below
    dog[0] = emu[4, 3] = False  # what marks the other one
    (last,), _ = read_masked([(shown, np.stack([dog, emu]))], predictor.model)
    assert torch.equal(read[7]["masks"], last["masks"])
    white = np.where(square()[..., None], shown, 255).astype(np.uint8)
    (on_white,), _ = read_masked([(white, square())], predictor.model)
    assert all(torch.equal(one["image"], on_white["image"]) for one in read[:3])
    assert read[3]["file_name"] == str(files / "cat.png")


def test_two_boxes_of_one_name_are_completed_one_by_one(predictor):
    boxes = [{"box": [0, 0, 20, 20]}, {"box": [50, 30, 90, 60]}]
    centre = lambda _, marked: marked.open & ~np.roll(marked.open, 5, 1)  # noqa: E731
    (read,), names = read_references(
        [(picture(0), boxes, ["a", "a"])], predictor.model.input, centre
    )
    assert names == {1: "a"} and read["masks"].shape[0] == 1
    left = np.zeros((H, W), dtype=bool)
    left[:20, :5] = left[30:, 50:55] = True
    (expected,), _ = read_masked([(picture(0), left)], predictor.model)
    assert torch.equal(read["masks"], expected["masks"])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"box": [50, 0, 20, 9]}, r"2 \(.*cat.png\): mask: box \[50, 0, 20, 9\] is no x0"),
        ({"points": [[90, 3]]}, r"2 \(.*cat.png\): mask: points: \(90, 3\) is not in"),
        ({"circle": 3}, r"2 \(.*cat.png\): mask is a dict with .*'circle' is none of its keys"),
        ("coco.json", r"2 \(.*coco.json\): mask is a dict with .*it is a whole COCO file"),
        ("box.json", r"2 \(.*box.json\): mask: this model takes masks as references, not boxes"),
        ({"box": [0, 0, 9, 9]}, r"2 \(.*cat.png\): mask: this model takes masks as references"),
        ("grey.png", r"2 \(.*grey.png\): mask is empty .*: it has the values 0, 127$"),
    ],
)
def test_bad_prompts_are_named(files, references, mask, message):
    predictor = InContextPredictor.from_model(MeanColour())  # which cannot complete
    (files / "coco.json").write_text('{"images": [], "annotations": []}')
    (files / "box.json").write_text('{"box": [1, 2, 30, 40]}')
    Image.fromarray(square() * np.uint8(127)).save(files / "grey.png")
    mask = files / mask if isinstance(mask, str) else mask
    with pytest.raises(ValueError, match=message):
        predictor.set_references([references[0], (files / "cat.png", mask, "cat")])


def test_a_predictor_asks_its_model(monkeypatch):
    predictor, asked = InContextPredictor.from_model(MeanColour()), []

    def complete_mask(shown, marked):
        asked.append((shown.pixels, marked.outside))
        return square()

    monkeypatch.setattr(predictor.model, "complete_mask", complete_mask)
    predictor.set_references([(picture(0), {"box": [10, 5, 60, 40]}, "cat")])
    by_box = predictor.context.tensors["colours"]
    ((pixels, outside),) = asked
    np.testing.assert_array_equal(pixels, picture(0))
    assert not outside[5:40, 10:60].any() and outside.sum() == H * W - 35 * 50
    predictor.set_references([(picture(0), square(), "cat")])
    assert torch.equal(predictor.context.tensors["colours"], by_box)


def test_odd_masks_are_said_once_each(predictor, files, caplog):
    Image.fromarray(~square()).save(files / "inverse.png")
    full, speck = np.ones((H, W), bool), np.zeros((H, W), bool)
    speck[9, 9] = True
    predictor.set_references(
        [
            (files / "cat.png", files / "cat_mask.png", "cat"),
            (files / "cat.png", files / "inverse.png", "cat"),
            (files / "dog.png", full),
            (picture(0), np.stack([speck, square()]), ["dot", "square"]),
        ]
    )
    assert caplog.messages == [
        f"reference 2 ({files / 'inverse.png'}): mask of 'cat' covers 89 % of the picture, but not "
        "its middle; is it inverted?",
        f"reference 3 ({files / 'dog.png'}): mask of id 1 covers 100 % of the picture; is it "
        "inverted?",
        "reference 4: mask of 'dot' has 1 px, 0.02 % of the picture; is it of this picture?",
    ]
    assert {r.levelname for r in caplog.records} == {"WARNING"}


def test_a_box_round_the_whole_picture_is_said(predictor, caplog):
    whole, part = {"box": [0, 0, W, H]}, {"box": [0, 0, W // 2, H]}
    references = [(picture(0), whole, "cat"), (picture(0), [whole, part], ["dog", "emu"])]
    read_references(references, predictor.model.input, lambda _, marked: marked.open)
    odd = "covers 100 % of the picture: a box that leaves nothing out tells the thing from nothing"
    assert caplog.messages == [
        f"reference 1: mask of 'cat' {odd}",
        f"reference 2: mask of 'dog' {odd}",
    ]


def test_bad_sets_of_references(predictor):
    empty = np.stack([square(), np.zeros((H, W), bool)])
    for bad, message in (
        ([], "no references"),
        ("cat.png", "references must be a list"),
        ([(picture(0), empty, ["a", "b"])], r"reference 1: mask of id 2 \('b'\) is empty"),
        ([(picture(0), np.zeros((H, W)))], "reference 1: mask is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            predictor.set_references(bad)
    with pytest.raises(ValueError, match="task is 'part'"):
        predictor.set_references([(picture(0), square())], task="part")
    with pytest.raises(RuntimeError, match="set_references"):
        predictor(picture(0))
    with pytest.raises(RuntimeError, match="set_references"):
        predictor.save_context("nowhere")


def test_masks_are_in_the_displayed_orientation(predictor, tmp_path):
    stored, mask = picture(0), square()
    exif = Image.Exif()
    exif[0x0112] = 6  # displayed after a quarter turn clockwise
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(mask).save(tmp_path / "stored.png")
    displayed = np.ascontiguousarray(np.rot90(mask, -1))
    Image.fromarray(displayed).save(tmp_path / "displayed.png")
    with pytest.raises(ValueError, match=r"stored.png\): mask is 90x60 px, .* is 60x90 px"):
        predictor.set_references([(tmp_path / "turned.png", tmp_path / "stored.png")])
    predictor.set_references([(tmp_path / "turned.png", tmp_path / "displayed.png")])
    turned = predictor.context
    predictor.set_references([(np.rot90(stored, -1), displayed)])
    assert torch.equal(turned.tensors["prototypes"], predictor.context.tensors["prototypes"])
    assert predictor(tmp_path / "turned.png").masks.shape == (1, W, H)


def test_ten_pixels_of_three_million_reach_the_prototype(predictor, tmp_path):
    image = np.full((1500, 2000, 3), 40, dtype=np.uint8)
    mask = np.zeros((1500, 2000), dtype=bool)
    mask[733:743, 1201:1211] = True
    image[mask] = 255
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (read,), _ = read_masked([(tmp_path / "image.png", tmp_path / "mask.png")], predictor.model)
    shrunk = read["masks"].sum() * (2000 / 112) ** 2
    assert shrunk == pytest.approx(100, rel=0.25)  # px² of the file that arrive on the canvas
    predictor.set_references([(tmp_path / "image.png", tmp_path / "mask.png", "speck")])
    context = predictor.context
    features = predictor.model.encode_images([read["image"]])
    row, column = (int(0.5 * (a + b) * 112 / 2000 // 14) for a, b in ((733, 743), (1201, 1211)))
    assert context.shots.tolist() == [[True]]
    torch.testing.assert_close(context.tensors["prototypes"][0, 0], features.map[0, :, row, column])


def test_a_zoomed_reference_is_the_cut_picture():
    """Masks of 20x30 px in 60x90 px, both of one picture, as if it was cut by hand."""
    first, second = square(y=30, x=10), square(y=20, x=40)
    masks, names = first + 2 * (second & ~first).astype(np.uint8), {1: "a", 2: "b"}
    torch.manual_seed(0)
    zooming = InContextPredictor(tiny_config("INPUT.REFERENCE_ZOOM", 1.0), device="cpu")
    torch.manual_seed(0)
    plain = InContextPredictor(tiny_config(), device="cpu")
    whole = picture(0)
    zooming.set_references([(whole, masks, names)])
    plain.set_references([(whole[:, 10:70], masks[:, 10:70], names)])  # they reach from 10 to 70
    assert torch.equal(zooming.context.tensors["prototypes"], plain.context.tensors["prototypes"])
    plain.set_references([(whole, masks, names)])
    assert not torch.equal(
        zooming.context.tensors["prototypes"], plain.context.tensors["prototypes"]
    )


POLYGON = {"shape_type": "polygon", "points": [[20, 10], [50, 10], [50, 30], [20, 30]]}


def labelme(folder, *labels, **more):
    """A picture, and labelme's file of it, which has the square once for each label."""
    Image.fromarray(picture(0)).save(folder / "a.png")
    shapes = [{**POLYGON, "label": label, **more} for label in labels]
    text = json.dumps({"shapes": shapes, "imagePath": "a.png", "imageHeight": H, "imageWidth": W})
    (folder / "a.json").write_text(text)
    return str(folder / "a.png"), str(folder / "a.json")


def test_all_that_a_tool_exported(predictor, tmp_path):
    labelme(tmp_path, "cat", "dog", "cat")
    read, names = read_masked(f"labelme:{tmp_path}", predictor.model)
    assert names == {1: "cat", 2: "dog"} and read[0]["entity_ids"].tolist() == [1, 2]
    (own,), _ = read_masked([(picture(0), square(), "cat")], predictor.model)
    assert torch.equal(read[0]["masks"][0], own["masks"][0])
    predictor.set_references(f"labelme:{tmp_path}")
    assert predictor.context.names == ["cat", "dog"]
    with pytest.raises(ValueError, match="references must be a list"):
        read_masked(str(tmp_path), predictor.model)


def test_a_file_of_labelme_or_yolo_is_a_mask_with_names(predictor, tmp_path):
    image, mask = labelme(tmp_path, "cat")
    read, names = read_masked([(image, mask)], predictor.model)
    assert names == {1: "cat"}
    (own,), _ = read_masked([(image, square())], predictor.model)
    assert torch.equal(read[0]["masks"], own["masks"])
    assert read_masked([(image, mask, "lynx")], predictor.model)[1] == {1: "lynx"}
    (tmp_path / "a.txt").write_text("1 0.2222222 0.16666667 0.5555556 0.16666667 0.5555556 0.5 "
                                    "0.2222222 0.5")  # fmt: skip
    read, names = read_masked([(image, tmp_path / "a.txt")], predictor.model)
    assert names == {1: "class 1"} and torch.equal(read[0]["masks"], own["masks"])
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert read_masked([(image, tmp_path / "a.txt")], predictor.model)[1] == {1: "cat"}


def test_files_that_mark_nothing_or_have_faults(predictor, tmp_path):
    for shape, message in (
        ({"shape_type": "rectangle"}, r"a.json marks nothing \(1 of the kind rectangle\)"),
        ({"points": [[1, None], [2, 3], [4, 5]]}, r"shapes\[0\]: polygon 1 has None"),
    ):
        reference = labelme(tmp_path, "cat", **shape)
        with pytest.raises(ValueError, match=rf"reference 1 \(.*a.json\): mask: .*{message}"):
            read_masked([reference], predictor.model)
    labelme(tmp_path, "cat", "dog")
    two = [(str(tmp_path / "a.png"), str(tmp_path / "a.json"), "cat")]
    with pytest.raises(ValueError, match=r"mask has the ids 1, 2, the names are \['cat'\]"):
        read_masked(two, predictor.model)
    with pytest.raises(FileNotFoundError, match="no such file: .*none.txt"):
        read_masked([(picture(0), str(tmp_path / "none.txt"))], predictor.model)
