"""Sequences of frames with maps, as DAVIS and YouTube-VOS lay them out."""

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.annotations import read_annotations
from segic_d2.io.annotations.vos import sequences
from tests.io.annotations.parts import SIZE, box, picture, read


def clip(root, name, maps, inner=""):
    for i in range(3):
        picture(root / "JPEGImages" / inner / name / f"{i:05}.jpg")
    for i in range(maps):
        labels = np.zeros(SIZE, np.uint8)
        labels[box(i, 0, 20 + i, 20)], labels[box(40, 30, 50, 35)] = 1, 255
        labels[box(30, 0, 40, 10)] = 2 if i == 0 else 0
        folder = root / "Annotations" / inner / name
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(labels).convert("P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *[9] * (253 * 3)])
        image.save(folder / f"{i:05}.png")


@pytest.mark.parametrize("inner", ["", "480p"])
def test_objects_of_sequences_are_classes(tmp_path, inner):
    clip(tmp_path, "dog", 3, inner)
    clip(tmp_path, "car", 1, inner)
    found = read(f"vos:{tmp_path}")
    assert found.names == ["car 1", "car 2", "dog 1", "dog 2"] and len(found) == 4
    assert found.notes == {"frames without a map": 2}
    assert [list(p.masks()) for p in found] == [
        ["car 1", "car 2"], ["dog 1", "dog 2"], ["dog 1"], ["dog 1"]
    ]  # fmt: skip
    np.testing.assert_array_equal(found[2].masks()["dog 1"], box(1, 0, 21, 20))
    car, dog = sequences(tmp_path)
    assert (car.name, len(car.frames), car.maps[1:]) == ("car", 3, [None, None])
    assert [f.stem for f in dog.frames] == ["00000", "00001", "00002"]


def test_faults(tmp_path):
    clip(tmp_path, "dog", 2)
    folder = tmp_path / "Annotations" / "dog"
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(folder / "00000.png")
    (folder / "00001.png").write_bytes(b"no picture")
    found = read_annotations(f"vos:{tmp_path}")
    small, broken = found.faults
    assert not len(found)  # neither is a frame that shows nothing
    assert "00000.png is 5x5 px, another size than " in small and "00001.png" in broken
    with pytest.raises(FileNotFoundError, match="no such folder: .*JPEGImages"):
        read_annotations(f"vos:{folder}")


@pytest.mark.parametrize(("value", "fault"), [(2**31 - 1, ""), (-1, "the id -1; ids are from 0")])
def test_ids_of_32_bits_are_exact_or_a_fault(tmp_path, value, fault):
    clip(tmp_path, "dog", 1)
    labels = np.where(box(3, 3, 9, 9), value, 0).astype(np.int32)
    labels[box(20, 3, 29, 9)], labels[box(30, 3, 39, 9)] = 255, 65535  # ignored
    Image.fromarray(labels).save(tmp_path / "Annotations" / "dog" / "00000.png", "TIFF")
    found = read_annotations(f"vos:{tmp_path}")
    if fault:
        assert fault in found.faults[0] and not len(found)
    else:
        assert found.names == [f"dog {value}"]
        np.testing.assert_array_equal(found[0].masks()[f"dog {value}"], box(3, 3, 9, 9))


def test_255_alone_is_an_object(tmp_path, caplog):
    """As in DAVIS 2016."""
    clip(tmp_path, "dog", 2)
    for file in (tmp_path / "Annotations" / "dog").iterdir():
        Image.fromarray(box(0, 0, 20, 20).astype(np.uint8) * 255).save(file)
    found = read(f"vos:{tmp_path}")
    assert found.names == ["dog 1"] and "0 and 255 alone: 255 is an object" in caplog.text
    np.testing.assert_array_equal(found[1].masks()["dog 1"], box(0, 0, 20, 20))
