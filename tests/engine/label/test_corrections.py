"""Which corrected pictures become references."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from segic_d2.engine.label import corrections, label_again, label_folder
from segic_d2.engine.label.corrections import as_references, joined_context
from segic_d2.io.annotations import read_annotations
from segic_d2.io.annotations.brush import encode_brush
from segic_d2.io.rle import encode
from segic_d2.structures.context import PIXELS, PROTOTYPES, Context
from tests.engine.label.boxes import draw, tiny_predictor, write_pictures


def one_shot(vector, name="a", number=1):
    vector = torch.as_tensor(vector, dtype=torch.float32)
    shots = torch.ones(1, 1, dtype=torch.bool)
    return Context(PROTOTYPES, shots, {"prototypes": vector[None, None]}, None, [number], [name])


def test_far_apart_takes_what_is_least_like_what_is_there():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 5, generator=generator)
    contexts = [one_shot(v) for v in vectors]
    units = vectors / vectors.norm(dim=1, keepdim=True)
    chosen, known = [], [0]
    for _ in range(4):  # by hand
        rest = [i for i in range(1, 12) if i not in known]
        nearest = {i: max(float(units[i] @ units[j]) for j in known) for i in rest}
        known.append(min(nearest, key=nearest.get))
        chosen.append(known[-1] - 1)
    assert corrections._far_apart(contexts[:1], contexts[1:], 4) == chosen
    assert len(corrections._far_apart(contexts[:1], contexts[1:3], 5)) == 2
    assert corrections._far_apart(contexts[:1], [], 5) == []


def test_contexts_of_pixels_are_compared_by_what_they_show():
    shots = torch.ones(1, 1, dtype=torch.bool)
    images = [torch.full((1, 1, 3, 32, 32), 200, dtype=torch.uint8) for _ in range(3)]
    images[0][..., :16] = images[1][..., 2:18] = 0  # a dark half, hardly moved
    images[2][..., :16, :] = 0
    units = torch.cat(
        [corrections._units(Context(PIXELS, shots, {"image": x}, None, [1], ["a"])) for x in images]
    )
    alike = units @ units.T
    assert alike[0, 1] > 0.5 and abs(alike[0, 2]) < 0.1


def record(file, mask, name="box"):
    things = [[0, 1.0, encode(mask)["counts"]]]
    size = list(mask.shape)
    return {"file": str(file), "size": size, "names": [name], "things": things, "given": True}


def test_a_joined_context_has_the_first_shots_and_at_most_so_many_more(tmp_path):
    predictor = tiny_predictor(("box", "other"))
    folder = write_pictures(tmp_path / "in", 4)
    files = sorted(folder.iterdir())
    records = [record(file, draw(i)[1]) for i, file in enumerate(files)]
    first = predictor.context
    joined = joined_context(predictor, first, records, 3)
    assert (joined.ids, joined.names) == (first.ids, first.names)
    assert joined.shots.sum(1).tolist() == [4, 1]
    assert torch.equal(joined.tensors["prototypes"][:, :1], first.tensors["prototypes"][:, :1])
    own = predictor.encode_references([(files[0], draw(0)[1], "box")]).tensors["prototypes"][0, 0]
    found = joined.tensors["prototypes"][0, 1:]
    assert len(found) == 3 and joined.fingerprint == first.fingerprint
    everything = joined_context(predictor, first, records, 9).tensors["prototypes"][0]
    assert (everything - own).abs().amax(1).min() < 1e-6
    predictor.context = joined  # it is one that the model takes
    assert len(predictor(files[0], independent=True)) == 2


def test_an_export_with_skipped_tasks_is_of_the_whole_folder(tmp_path):
    predictor, out = tiny_predictor(), tmp_path / "out"
    pictures = write_pictures(tmp_path / "in", 4)
    report = label_folder(predictor, pictures, out, "labelstudio", min_score=0)
    tasks = json.loads((out / "round-1/labels/tasks.json").read_text())
    for number, task in enumerate(tasks):
        name = task["data"]["image"].rsplit("/")[-1]
        task["data"] = {"image": f"/data/upload/7/{number:08x}-{name}", "note": "a/b?"}
    result = tasks[3]["annotations"][0]["result"]
    result[0]["value"]["rle"] = encode_brush(draw(0)[1])
    tasks[0]["annotations"][0]["was_cancelled"] = True
    tasks[1]["annotations"] = []
    (tmp_path / "export.json").write_text(json.dumps(tasks[::-1]))
    again = label_again(predictor, out, str(tmp_path / "export.json"))
    assert again.given == 1
    found = {p.file_name.rsplit("/")[-1]: p.masks() for p in read_annotations(again.name)}
    assert np.array_equal(found["0003.png"]["box"], draw(0)[1])
    assert found["0000.png"] and found["0001.png"] and report.pictures == again.pictures == 4


def test_ignored_pixels_of_a_label_map_are_refused(tmp_path):
    predictor, out = tiny_predictor(), tmp_path / "out"
    label_folder(predictor, write_pictures(tmp_path / "in", 2), out, "masks")
    file = out / "round-1/labels/masks/0001.png"
    Image.fromarray(draw(0)[1]).convert("L").save(file)  # 0 and 255
    with pytest.raises(ValueError, match='0001.png has the value 255, "ignored"'):
        label_again(predictor, out, str(out / "round-1/labels"))


def test_what_shows_nothing_is_no_reference(tmp_path):
    folder = write_pictures(tmp_path / "in", 1)
    empty = {"file": str(folder / "0000.png"), "size": [60, 80], "names": ["box"], "things": []}
    with as_references([empty]) as found:
        assert found == []
    with as_references([record(folder / "0000.png", draw(0)[1])]) as found:
        ((file, masks, names),) = found
        assert np.array_equal(masks[0], draw(0)[1]) and names == ["box"] and file.endswith(".png")
