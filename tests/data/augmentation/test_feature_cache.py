"""The feature cache on disk: keys, torn files, the bound, several processes at once."""

import multiprocessing
import os
import time

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from PIL import Image

from segic_d2.data.augmentation.feature_cache import FeatureCache
from segic_d2.data.augmentation.transforms import instance_augmentations, semantic_augmentations
from segic_d2.structures.picture import Picture
from tests.data import toy
from tests.views import plain_augmentations

IDENTITY = {"backbone": "tiny", "feature": "feat", "weights": "0123", "canvas": 56, "input": "RGB"}


def cache(folder, max_gb=1.0, dtype="float16", **changes):
    return FeatureCache(folder, max_gb, {**IDENTITY, **changes}, dtype)


def features(number, cells=4):
    generator = torch.Generator().manual_seed(number)
    return torch.randn(8, cells, cells, generator=generator).half()


def files(folder):
    return sorted(folder.glob("*/*/*.safetensors"))


@pytest.fixture
def picture(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def transforms(make=semantic_augmentations, seed=0, name="a.png", folder=None, **options):
    return Picture(folder / name).draw(make(toy.config(**options)), seed)


def test_what_was_put_is_found_again_to_the_bit_also_by_others(tmp_path):
    one, other = cache(tmp_path), cache(tmp_path)
    assert one.get("view") is None
    one.put("view", features(1))
    assert other.get("view").dtype == torch.float16
    assert torch.equal(other.get("view"), features(1))
    other.put("view", features(2))  # a view has one map: the first stays
    assert torch.equal(one.get("view"), features(1))
    full = cache(tmp_path, dtype="float32")
    assert full.get("view") is None  # another type is another map
    full.put("view", features(1).float() + 1e-6)
    assert torch.equal(full.get("view"), features(1).float() + 1e-6)


@pytest.mark.parametrize("part", list(IDENTITY))
def test_another_model_finds_nothing(tmp_path, part):
    cache(tmp_path).put("view", features(1))
    assert cache(tmp_path, **{part: "other"}).get("view") is None
    assert cache(tmp_path).get("view") is not None
    said = next(tmp_path.glob("*/identity.json")).read_text()
    assert '"weights": "0123"' in said  # people can tell whose folder it is


def test_the_key_says_what_was_done_to_which_file(picture):
    folder, keys = picture.parent, cache(picture.parent / "cache")
    for make in (semantic_augmentations, instance_augmentations):
        options = {"input__instance__jitter_prob": 1.0}
        drawn = [transforms(make, s, folder=folder, **options) for s in (*range(20), 0)]
        texts = [keys.key(picture, t) for t in drawn]
        assert len(set(texts)) == 20 and texts[0] == texts[-1]
    assert "Jitter(steps=(('" in texts[0] and str(picture) in texts[0]
    before = keys.key(picture, drawn[0])
    for option in ({"input__canvas": 28}, {"input__resize": "float"}):
        plain = {"input__semantic__scale": (1.0, 1.0), "input__semantic__flip_prob": 0.0}
        views = [transforms(folder=folder, **plain), transforms(folder=folder, **plain, **option)]
        assert keys.key(picture, views[0]) != keys.key(picture, views[1]), option
    os.utime(picture, ns=(1, 1))  # saved again: same name, another time
    assert keys.key(picture, drawn[0]) != before
    with pytest.raises(FileNotFoundError, match="no such image file: .*gone.png"):
        keys.key(folder / "gone.png", drawn[0])
    unknown = T.TransformList([T.ColorTransform(lambda pixels: pixels)])
    with pytest.raises(TypeError, match="ColorTransform does not tell what it does"):
        keys.key(picture, unknown)


@pytest.mark.parametrize("resize", ["pil", "float"])
def test_training_that_changes_nothing_shares_the_map_of_evaluation(picture, resize):
    folder, keys = picture.parent, cache(picture.parent / "cache")
    options = {"input__semantic__flip_prob": 0.0, "input__resize": resize}
    plain = keys.key(picture, transforms(plain_augmentations, folder=folder, **options))
    whole = transforms(folder=folder, input__semantic__scale=(1.0, 1.0), **options)
    assert len(whole.transforms) == 3 and keys.key(picture, whole) == plain
    cut = transforms(folder=folder, input__semantic__scale=(2.0, 2.0), **options)
    assert "CropTransform" in keys.key(picture, cut)


@pytest.mark.parametrize("harm", ["cut", "empty", "flipped", "foreign", "other view", "folder"])
def test_a_torn_or_foreign_file_is_missed_and_made_anew(tmp_path, harm):
    store = cache(tmp_path)
    store.put("view", features(1))
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    if harm == "cut":
        path.write_bytes(data[:-7])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "flipped":
        data[-3] ^= 1
        path.write_bytes(data)
    elif harm == "foreign":
        path.write_bytes(b"not ours at all, but long enough to hold a header")
    elif harm == "other view":
        store.put("another", features(2))
        os.replace(next(p for p in files(tmp_path) if p != path), path)
    else:
        (path.parent / "x.part").write_bytes(data)  # what a killed process leaves is never read
        path.unlink()
    assert store.get("view") is None
    store.put("view", features(1))
    assert torch.equal(store.get("view"), features(1))


def header(text):
    """A file that begins as a map does, with another header."""
    return len(text).to_bytes(8, "little") + text


HEADERS = {
    "text": b'"a"',
    "null": b"null",
    "list": b"[]",
    "number": b"5",
    "no metadata": b"{}",
    "null metadata": b'{"__metadata__": null}',
    "list metadata": b'{"__metadata__": [1]}',
    "null crc32": b'{"__metadata__": {"key": "view", "model": "MODEL", "crc32": null}}',
    "long crc32": b'{"__metadata__": {"key": "view", "model": "MODEL", "crc32": "' + b"9" * 5000,
    "deep": b"[" * 1_000_000,
    "deep objects": b'{"a":' * 100_000,
    "no text": b"\xff\xfe",
    "control": b'{"__metadata__": "\x00"}',
}


@pytest.mark.parametrize("kind", HEADERS)
def test_whatever_lies_under_a_maps_name_is_missed_and_made_anew(tmp_path, kind, caplog):
    store = cache(tmp_path)
    store.put("view", features(1))
    (path,) = files(tmp_path)
    path.write_bytes(header(HEADERS[kind].replace(b"MODEL", store.folder.name.encode())))
    assert store.get("view") is None and "is no feature map" in caplog.text
    store.put("view", features(1))
    assert torch.equal(store.get("view"), features(1))


@pytest.mark.parametrize("length", [0, 2**62, 2**64 - 1])
def test_a_header_of_any_length_is_missed(tmp_path, length):
    store = cache(tmp_path)
    store.put("view", features(1))
    (path,) = files(tmp_path)
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    assert store.get("view") is None


def test_a_folder_or_an_unremovable_file_is_missed(tmp_path, monkeypatch):
    store = cache(tmp_path)
    store.put("view", features(1))
    (path,) = files(tmp_path)
    path.write_bytes(b"torn")
    with monkeypatch.context() as patch:  # the superuser may remove anything
        patch.setattr("pathlib.Path.unlink", _forbidden)
        assert store.get("view") is None and path.exists()
        store.put("view", features(1))
    path.unlink()
    path.mkdir()
    assert store.get("view") is None
    store.put("view", features(1))
    assert path.is_dir() and cache(tmp_path, max_gb=1e-9).get("view") is None


def _forbidden(*args, **options):
    raise PermissionError(13, "Permission denied")


def test_an_unreadable_file_is_missed(tmp_path, monkeypatch):
    store = cache(tmp_path)
    store.put("view", features(1))
    monkeypatch.setattr("pathlib.Path.read_bytes", _forbidden)
    assert store.get("view") is None


def test_a_map_of_another_model_or_kind_is_missed(tmp_path):
    """Each copied to where a map of ours would be."""
    ours, theirs = cache(tmp_path / "a"), cache(tmp_path / "b", weights="other")
    ours.put("view", features(1)), theirs.put("view", features(2))
    place, other = files(tmp_path / "a") + files(tmp_path / "b")
    place.write_bytes(other.read_bytes())
    assert ours.get("view") is None
    for wrong in (features(3).float(), features(3)[0]):
        ours.put("view", wrong)
        assert ours.get("view") is None


@pytest.mark.parametrize("total", [b"", b"-5", b"9" * 5000, b"\xff", b"x"])
def test_a_wrong_total_is_counted_anew(tmp_path, total):
    store = cache(tmp_path)
    store.put("view", features(1))
    size = int((tmp_path / "size").read_text())
    (tmp_path / "size").write_bytes(total)
    store.put("another", features(2))
    assert int((tmp_path / "size").read_text()) == pytest.approx(2 * size, abs=9)


def test_what_a_killed_process_of_another_time_left_is_removed(tmp_path):
    store = cache(tmp_path)
    store.put("view", features(1))
    for years in (-6, 6):
        part = files(tmp_path)[0].with_suffix(".part")
        part.write_bytes(b"half")
        os.utime(part, (time.time() + years * 3e7,) * 2)
        cache(tmp_path)
        assert not part.exists()


def test_the_folder_stays_in_bounds_and_keeps_what_was_used_last(tmp_path):
    size = 1300  # bytes of one file, about
    store = cache(tmp_path, max_gb=10 * size / 1e9)
    for i in range(30):
        store.put(f"view {i}", features(i, cells=8))
        if i >= 3:
            assert store.get("view 3") is not None  # used again and again
        time.sleep(0.002)  # times of files are coarse on some systems
        assert sum(p.stat().st_size for p in files(tmp_path)) <= store.limit
    kept = [i for i in range(30) if store.get(f"view {i}") is not None]
    assert 3 in kept and 29 in kept and len(kept) >= 6
    assert kept[1:] == list(range(kept[1], 30))  # the others left in the order of their age
    store.put("large", features(0, cells=64))
    assert store.get("large") is None  # larger than all of it
    # a total that a killed process left wrong is counted again
    (tmp_path / "size").write_text("")
    store.put("view 30", features(30, cells=8))
    assert store.get("view 30") is not None


def test_other_models_maps_leave_first_when_they_are_older(tmp_path):
    old = cache(tmp_path, max_gb=1e-5, weights="old")
    for i in range(5):
        old.put(f"view {i}", features(i, cells=8))
    time.sleep(0.01)
    new = cache(tmp_path, max_gb=1e-5)
    for i in range(6):
        new.put(f"view {i}", features(i, cells=8))
    assert all(new.get(f"view {i}") is not None for i in range(6))
    assert old.get("view 0") is None


def _write_and_read(folder, process, limit, wrong):
    store = cache(folder, max_gb=limit)
    order = np.random.default_rng(process).permutation(40)
    for i in [*order, *order[::-1]]:
        found = store.get(f"view {i}")
        if found is None:
            store.put(f"view {i}", features(int(i), cells=8))
        elif not torch.equal(found, features(int(i), cells=8)):
            wrong.value += 1


@pytest.mark.parametrize("room", [1.0, 2e-5])
def test_processes_may_write_and_read_at_once(tmp_path, room):
    """Also while a small bound makes them remove each other's maps."""
    context = multiprocessing.get_context("fork")
    wrong = context.Value("i", 0)
    arguments = [(tmp_path, process, room, wrong) for process in range(3)]
    processes = [context.Process(target=_write_and_read, args=a) for a in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0, 0] and wrong.value == 0
    assert not list(tmp_path.glob("*/*/*.part"))
    total = sum(p.stat().st_size for p in files(tmp_path))
    assert total <= room * 1e9
    if room == 1.0:
        assert len(files(tmp_path)) == 40


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="INPUT.FEATURE_CACHE.DIR '.*file/x' cannot be written"):
        cache(str(tmp_path / "file" / "x"))


def test_a_full_disk_does_not_end_a_training(tmp_path, monkeypatch, caplog):
    store = cache(tmp_path)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segic_d2.utils.files.os.replace", full)
    store.put("view", features(1))
    assert "is not kept: [Errno 28]" in caplog.text
    monkeypatch.undo()
    assert store.get("view") is None and not list(tmp_path.glob("*/*/*.part"))
