import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks
from PIL import Image

from segic_d2.io.annotations import read_annotations
from segic_d2.structures import segmentation as module
from segic_d2.structures.frame import Frame
from segic_d2.structures.segmentation import Segmentation
from segic_d2.utils.visualizer import paint_labels

FRAME = Frame(32, (32, 20), (75, 47))


def segmentation(count=4, **changes):
    logits = torch.randn(count, 8, 8, generator=torch.Generator().manual_seed(0))
    ids = [3 * i + 1 for i in range(count)]
    values = {"logits": logits, "scores": torch.linspace(0.2, 0.9, count), "ids": ids}
    values |= {"names": [None] * count, "frame": FRAME, "threshold": 0.1}
    return Segmentation(**{**values, **changes})


def test_what_is_derived_follows_from_the_logits():
    found = segmentation(similarity=torch.rand(4, 4, 4))
    full = FRAME.upsample(found.logits)
    assert torch.equal(found.masks, full > 0.1) and found.masks is found.masks  # once
    assert torch.equal(found.propagated, FRAME.upsample(found.similarity)) and len(found) == 4
    assert segmentation().propagated is None
    boxes = BitMasks(found.masks).get_bounding_boxes()
    assert torch.equal(found.boxes.tensor, boxes.tensor)


def test_label_map_equals_a_plain_loop():
    found = segmentation()
    full, labels = FRAME.upsample(found.logits), found.label_map(background=2)
    for y in range(0, 75, 3):
        for x in range(0, 47, 3):
            best = max(range(4), key=lambda n, y=y, x=x: full[n, y, x])
            assert labels[y, x] == (found.ids[best] if full[best, y, x] > 0.1 else 2), (y, x)
    assert len(labels.unique()) > 2 and torch.equal(labels != 2, found.masks.any(0))
    with pytest.raises(ValueError, match="background 4 is the id"):
        found.label_map(background=4)
    assert torch.equal(found.labels(None, 9), full.max(0).indices.int() * 3 + 1)


def test_instances_are_the_masks_that_are_not_empty():
    logits = segmentation().logits.clone()
    logits[1] = -5
    found = segmentation(logits=logits)
    instances = found.instances()
    assert instances.image_size == (75, 47) and len(instances) == 3
    assert instances.pred_classes.tolist() == [1, 7, 10]
    assert torch.equal(instances.pred_masks, found.masks[[0, 2, 3]])
    assert torch.equal(instances.scores, found.scores[[0, 2, 3]])
    assert segmentation(classes=[5, 6, 7, 8]).instances().pred_classes.tolist() == [5, 6, 7, 8]


def test_sem_seg_is_for_the_arg_max():
    found = segmentation(2, ids=[2, 0])
    out = found.sem_seg(4, background=3)
    full = FRAME.upsample(found.logits)
    assert torch.equal(out[2], full[0]) and torch.equal(out[0], full[1])
    assert (out[3] == 0.1).all() and (out[1] == -torch.inf).all()
    for ids in ([1, 4], [1, 1]):
        with pytest.raises(ValueError, match="not distinct classes below 4"):
            segmentation(2, ids=ids).sem_seg(4)


def test_for_people_it_has_arrays_and_the_picture():
    found = segmentation(similarity=torch.rand(4, 4, 4))
    picture = np.zeros((75, 47, 3), np.uint8)
    result = found.for_people(picture, "a.jpg")
    for name in ("masks", "scores", "propagated"):
        assert isinstance(getattr(result, name), np.ndarray)
        np.testing.assert_array_equal(getattr(result, name), getattr(found, name).numpy())
    np.testing.assert_array_equal(result.label_map(), found.label_map().numpy())
    assert result.image is picture and result.file_name == "a.jpg" and found.image is None
    assert len(result.instances()) == len(found.instances())
    np.testing.assert_array_equal(result.boxes, found.boxes.tensor.numpy())
    assert result.areas.tolist() == found.masks.sum((1, 2)).tolist() == found.areas.tolist()


def result(file_name="", **changes):
    """For people: four entities, the second of which is not found."""
    found = segmentation(names=["cat", "dog", None, "emu"], **changes)
    found.logits[1] = -5
    picture = np.random.default_rng(0).integers(0, 256, (75, 47, 3), dtype=np.uint8)
    return found.for_people(picture, file_name)


def test_some_of_the_entities():
    some = result(classes=torch.tensor([7, 8, 7, 9])).take([3, 0])
    assert (some.ids, some.names, some.classes) == ([10, 1], ["emu", "cat"], [9, 7])
    np.testing.assert_array_equal(some.masks, result().masks[[3, 0]])


def test_its_line():
    found = result()
    shares = found.masks.mean((1, 2))
    names = zip(("cat", "dog", "7", "emu"), (0.2, 0.43, 0.67, 0.9), shares, strict=True)
    told = "; ".join(f"{name} score {s:.2f} area {a:.1%}" for name, s, a in names)
    assert repr(found) == f"Segmentation(47x75 px: {told})"
    bare = segmentation(10, names=["a"] * 10)  # whose masks nobody asked for
    assert repr(bare).startswith("Segmentation(47x75 px: a score 0.20; a score 0.28; a score")
    assert repr(bare).endswith("; 2 more)") and "masks" not in bare.__dict__
    assert repr(segmentation(0)) == "Segmentation(47x75 px: nothing)"


@pytest.mark.parametrize("first", [0, 1, 255])  # 0 is an entity where a data set numbers
def test_the_overlay_shows_the_merged_map(first, monkeypatch):
    found = replace(result(), ids=[first + i for i in range(4)])
    labels = found.label_map(-1)
    rows = np.where(labels < 0, -1, labels - first)
    texts = ["cat 20%", "dog 43%", f"{first + 2} 67%", "emu 90%"]
    expected = paint_labels(found.image, rows, found.ids, texts)
    np.testing.assert_array_equal(found.overlay(), expected)
    assert (rows == 1).sum() == 0 and len(np.unique(rows)) == 4
    assert found.overlay(30).shape == (30, 19, 3) and found.overlay(9999).shape == (75, 47, 3)
    monkeypatch.setattr(module, "EXACT", 40)
    assert found.overlay().shape == (75, 47, 3)
    with pytest.raises(ValueError, match="without its picture has no overlay"):
        segmentation().overlay()


def test_a_notebook_shows_the_overlay(monkeypatch):
    found = result()
    monkeypatch.setattr(module, "PREVIEW", 50)
    shown = np.asarray(Image.open(io.BytesIO(found._repr_png_())))
    np.testing.assert_array_equal(shown, found.overlay(50))
    assert segmentation()._repr_png_() is None


def test_saved_files(tmp_path):
    picture, found = tmp_path / "a.png", result(str(tmp_path / "a.png"))
    picture.write_bytes(b"the picture")
    for name in ("new/b.png", "b.JPG", "b.json"):
        found.save(tmp_path / name)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "new/b.png")), found.overlay())
    assert Image.open(tmp_path / "b.JPG").format == "JPEG"
    assert (tmp_path / "b.json").read_text() == found.to_json()
    (tmp_path / "link.png").symlink_to(picture)
    for name in ("a.png", "new/../a.png", "link.png"):
        with pytest.raises(ValueError, match=f"{name}' is the picture itself"):
            found.save(tmp_path / name)
    assert picture.read_bytes() == b"the picture"
    with pytest.raises(ValueError, match=re.escape("b.webp': .png, .jpg and .jpeg take the over")):
        found.save(tmp_path / "b.webp")


def test_conversions_leave_out_what_has_no_pixels():
    found = result("a.jpg", classes=[5, 6, 5, 8])
    coco, told = found.to_coco(), json.loads(found.to_json())
    assert [a["category_id"] for a in coco] == [5, 5, 8]
    assert (told["file"], told["height"], told["width"]) == ("a.jpg", 75, 47)
    assert [(e["id"], e["name"]) for e in told["entities"]] == [(1, "cat"), (7, None), (10, "emu")]
    assert [a["score"] for a in coco] == pytest.approx([0.2, 0.666667, 0.9])
    assert found.to_instances().pred_classes.tolist() == [5, 5, 8]
    assert [a["category_id"] for a in result().to_coco()] == [1, 7, 10]


def shared_by_hand(found):
    """Scores whose odds are shared by those whose masks overlap, entity by entity."""
    rows, columns = FRAME.rows_columns(found.logits.shape[-1])
    inside = (found.logits[:, :rows, :columns] > found.threshold).numpy()
    odds = [s / (1 - s) for s in found.scores.tolist()]
    shared = []
    for n, own in enumerate(inside):
        lost = [(own & inside[m]).sum() / own.sum() * odds[m] for m in range(len(odds)) if m != n]
        shared.append(odds[n] / (1 + odds[n] + sum(lost)))
    return shared


def competing_by_hand(found, scores, least):
    """Winner by the logit above the threshold plus four times the score's logit, position by
    position."""
    _, rows, columns = found.logits.shape
    winner = np.full((rows, columns), -1)
    for y in range(rows):
        for x in range(columns):
            best = -np.inf
            for n, score in enumerate(scores):
                above = float(found.logits[n, y, x]) - found.threshold
                strength = above + 4 * np.log(score / (1 - score))
                if score >= least and above > 0 and strength > best:
                    best, winner[y, x] = strength, n
    return winner


def test_entities_compete_for_every_pixel():
    plain = segmentation()
    scores = torch.tensor([0.1, 0.5, 0.55, 0.6])
    found = segmentation(logits=3 * plain.logits, scores=scores, names=list("abcd"))
    shared = shared_by_hand(found)
    by_hand = competing_by_hand(found, shared, 0.1)
    some = found.compete(0.1)
    assert shared[0] < 0.1 and some.ids == [4, 7, 10] and some.names == list("bcd")
    assert some.exclusive and not found.exclusive
    np.testing.assert_allclose(some.scores, shared[1:], rtol=1e-4)
    for row, n in enumerate((1, 2, 3)):
        assert np.array_equal(some.logits[row] > 0.1, by_hand == n), n
    assert len(np.unique(by_hand)) == 4
    masks, labels = some.masks, some.label_map()
    assert masks.sum(0).max() == 1 and found.masks[1:].sum(0).max() > 1
    for row, i in enumerate(some.ids):
        assert torch.equal(masks[row], labels == i)
    # at the picture's own size as well, what is nobody's was nobody's
    assert not (masks.any(0) & ~found.masks[1:].any(0)).any()


def test_entities_apart_keep_scores_and_masks():
    logits = torch.full((2, 8, 8), -3.0)
    logits[0, :3, :3], logits[1, 4:, :4] = 2, 2
    found = segmentation(2, logits=logits)
    some = found.compete()
    torch.testing.assert_close(some.scores, found.scores)
    assert torch.equal(some.masks, found.masks) and torch.equal(some.logits, logits)


def test_competing_alone_changes_no_mask():
    found = segmentation(1)
    assert torch.equal(found.compete().masks, found.masks)
    torch.testing.assert_close(found.compete().scores, found.scores)
    assert len(found.compete(0.5)) == 0 and found.compete(0.5).masks.shape == (0, 75, 47)
    unknown = segmentation(2, scores=torch.tensor([torch.nan, 0.5]))
    assert unknown.compete(0.1).scores.isnan().tolist() == [True, False]  # it does not vanish
    with pytest.raises(ValueError, match="x.jpg: the model's scores are not finite"):
        unknown.compete().for_people(np.zeros((*FRAME.size, 3), np.uint8), "x.jpg")


def test_folders_for_labelling_tools(tmp_path):
    Image.fromarray(np.zeros((*FRAME.size, 3), np.uint8)).save(tmp_path / "a.png")
    found = result(str(tmp_path / "a.png"))
    assert found.areas[1] == 0  # and is not written
    found.names = ["cat", "emu", None, "cat"]
    (own,) = read_annotations(found.to_folder(tmp_path / "out", "cvat", {"cat": "lynx"}))
    assert own.names == ["lynx", "entity 7"]
    assert np.array_equal(own.masks()["lynx"], found.masks[0] | found.masks[3])
    assert np.array_equal(own.masks()["entity 7"], found.masks[2])
    with pytest.raises(ValueError, match="of a picture without a file"):
        result().to_folder(tmp_path / "other")


def test_what_competes_for_people_keeps_arrays():
    found = segmentation().for_people(np.zeros((75, 47, 3), np.uint8)).compete()
    assert isinstance(found.scores, np.ndarray) and isinstance(found.masks, np.ndarray)
    np.testing.assert_allclose(found.scores, segmentation().compete().scores)
