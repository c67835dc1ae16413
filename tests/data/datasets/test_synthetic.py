import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data import plan_references
from segic_d2.data.index import Source
from tests.data import toy
from tests.data.every_reference import load_references


def make(root, labels_of, dtype=np.int32):
    """Pictures named by number, with 32-bit label maps."""
    for kind in ("images", "annotations"):
        (root / f"{kind}_detectron2/validation").mkdir(parents=True)
    for number, values in labels_of.items():
        labels = np.zeros((20, 30), dtype)
        for i, value in enumerate(values):
            labels[:, 5 * i : 5 * i + 5] = value
        Image.new("RGB", (30, 20)).save(root / f"images_detectron2/validation/{number}.jpg")
        Image.fromarray(labels).save(root / f"annotations_detectron2/validation/{number}.tif")
    return root


def test_number_k_shows_the_kth_class(tmp_path):
    """Background is not counted, and 2.tif stands for class 2 alone, whatever else it shows."""
    target = toy.sem_seg(tmp_path)  # background, red, green, blue
    root = make(tmp_path / "sd", {1: [1], 2: [1, 2, 3], 3: [0, 3]})
    name = f"synthetic:{target}:{root}"
    references, names = load_references(toy.config(test__shots=5), [name], target)
    assert names == {i + 1: n for i, n in enumerate(toy.NAMES)}
    assert [r["entity_ids"] for r in references] == [[1], [2], [3]]
    assert [r["file_name"].split("/")[-1] for r in references] == ["1.jpg", "2.jpg", "3.jpg"]
    inside = references[1]["masks"][0].sum(0) > 0
    width = inside.shape[0]
    assert not inside[: width // 6].any() and inside[width // 6 + 1 : width // 3 - 1].all()
    assert not inside[width // 3 + 1 :].any()


def test_classes_of_the_same_name_keep_their_places(tmp_path):
    """The list of A-847 names some classes twice."""
    target = toy.unique("twice")
    DatasetCatalog.register(target, lambda: DatasetCatalog.get(toy.sem_seg(tmp_path)))
    MetadataCatalog.get(target).set(stuff_classes=["door", "wall", "door", "x"], ignore_label=255)
    root = make(tmp_path / "sd", {k: [k] for k in (1, 2, 3)})
    plan = plan_references(toy.config(), [f"synthetic:{target}:{root}"], target)
    files = {c: plan.file(pick).split("/")[-1] for c, (pick,) in plan.picks.items()}
    assert files == {0: "1.jpg", 1: "2.jpg", 2: "3.jpg"} and 3 in plan.names


def test_what_does_not_fit_is_named(tmp_path):
    target = toy.sem_seg(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder .*gone/images_detectron2/validation"):
        Source(f"synthetic:{target}:{tmp_path / 'gone'}")
    root = make(tmp_path / "four", {4: [4]})
    with pytest.raises(ValueError, match="4.jpg: its name is the number of a class .* 1 to 3"):
        Source(f"synthetic:{target}:{root}")
    root = make(tmp_path / "lost", {2: [2]})
    (root / "annotations_detectron2/validation/2.tif").unlink()
    with pytest.raises(FileNotFoundError, match="without a label map: .*2.jpg; expected .*2.tif"):
        Source(f"synthetic:{target}:{root}")
    with pytest.raises(ValueError, match="expected synthetic:REGISTERED_DATASET:FOLDER"):
        Source(f"synthetic:unheard_of:{root}")
