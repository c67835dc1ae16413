import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from segic_d2.data import register_folder_dataset
from segic_d2.data.health.damaged import leaving_out
from segic_d2.data.index import Source
from segic_d2.data.records import class_masks
from segic_d2.io.annotations import references_in
from segic_d2.io.masks import read_binary_mask
from tests.data import toy


def picture(path, values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 6), np.uint8) if values is None else values).save(path)


def load(root, **metadata):
    name = toy.unique("folder")
    register_folder_dataset(name, root, **metadata)
    return name, DatasetCatalog.get(name)


def test_class_folders(tmp_path):
    for stem in ("1.jpg", "1.png", "10.webp", "10.PNG", "2.png", "2_mask.png"):
        picture(tmp_path / "abe's_fish" / stem)
    picture(tmp_path / "zebra" / "photo.JPEG")
    picture(tmp_path / "zebra" / "photo.png")
    (tmp_path / "zebra" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    name, records = load(tmp_path)
    fish, zebra = tmp_path / "abe's_fish", tmp_path / "zebra"
    assert [(r["file_name"], r["mask_file_name"], r["category_id"]) for r in records] == [
        (str(fish / "1.jpg"), str(fish / "1.png"), 0),
        (str(fish / "10.webp"), str(fish / "10.PNG"), 0),
        (str(fish / "2.png"), str(fish / "2_mask.png"), 0),
        (str(zebra / "photo.JPEG"), str(zebra / "photo.png"), 1),
    ]
    assert [r["image_id"] for r in records] == [0, 1, 2, 3]
    assert MetadataCatalog.get(name).thing_classes == ["abe's fish", "zebra"]
    assert DatasetCatalog.get(name) == records  # a second load changes nothing


def test_given_class_names_are_kept(tmp_path):
    picture(tmp_path / "n01" / "1.jpg")
    picture(tmp_path / "n01" / "1.png")
    name, _ = load(tmp_path, thing_classes=["zebra"])
    assert Source(name).names == ["zebra"]


@pytest.mark.parametrize(
    "files, message",
    [
        (["a/1.jpg"], r"image without a mask: .*a/1\.jpg.*1\.png or 1_mask\.png"),
        (["a/1.jpg", "a/1.png", "a/2.png"], r"image without a mask: .*a/2\.png"),
        (["a/1.jpg", "a/1.png", "a/3_mask.png"], r"mask without an image: .*a/3_mask\.png"),
    ],
)
def test_class_folders_with_a_file_missing(tmp_path, files, message):
    for file in files:
        picture(tmp_path / file)
    with pytest.raises(FileNotFoundError, match=message):
        load(tmp_path)


def test_class_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder: .*absent"):
        load(tmp_path / "absent")
    with pytest.raises(ValueError, match="neither class folders nor images/ and masks/"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no images in class folder .*empty"):
        load(tmp_path)
    for stem in ("1.jpg", "1.webp", "1.png"):
        picture(tmp_path / "empty" / stem)
    with pytest.raises(ValueError, match=r"1\.jpg.*1\.webp.*one mask"):
        load(tmp_path)


def test_label_maps_with_and_without_names(tmp_path):
    name = toy.folder_b(tmp_path)
    source = Source(name)
    assert source.names == ["background", *toy.NAMES]
    metadata = MetadataCatalog.get(name)
    assert metadata.ignore_label == 255 and metadata.background_label == 0
    assert source.presence == [sorted({c + 1 for c, _ in objects}) for _, objects in toy.scenes(6)]
    (tmp_path / "b" / "classes.txt").unlink()
    name, _ = load(tmp_path / "b")
    assert Source(name).names == ["background", "class 1", "class 2", "class 3"]


def test_ids_may_have_gaps(tmp_path):
    for i in range(2):
        picture(tmp_path / "images" / f"{i}.jpg", np.zeros((1, 3), np.uint8))
        picture(tmp_path / "masks" / f"{i}.png", np.array([[0, 3, 255]], np.uint16))
    (tmp_path / "classes.txt").write_text("3 polar bear\n\n7 owl\n")
    name, _ = load(tmp_path)
    source = Source(name)
    assert source.names[3] == "polar bear" and source.names[7] == "owl" and len(source.names) == 8
    assert source.presence == [[3], [3]]


def test_maps_of_0_and_255_are_binary_masks_of_one_class(tmp_path, caplog):
    for i, top in enumerate((255, 255, 0)):
        picture(tmp_path / "images" / f"{i}.jpg")
        values = np.zeros((4, 6), np.uint8)
        values[:, 2 + i :] = top
        picture(tmp_path / "masks" / f"{i}.png", values)
    name, records = load(tmp_path)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"dataset {name!r}: the maps in {tmp_path / 'masks'} show 0 and 255 alone: they are taken "
        "as binary masks of one class, 'class 255'"
    ]
    source = Source(name)
    assert source.names == ["class 255"] and source.presence == [[0], [0]]  # the third shows none
    assert [read_binary_mask(r["mask_file_name"]).sum() for r in records] == [16, 12]
    (tmp_path / "classes.txt").write_text("255 owl\n")
    assert Source(load(tmp_path)[0]).names == ["owl"]
    (tmp_path / "classes.txt").write_text("1 owl\n")
    with pytest.raises(ValueError, match="which .*classes.txt does not name: give its class"):
        load(tmp_path)
    picture(tmp_path / "masks" / "2.png", np.full((4, 6), 1, np.uint8))  # 255 is ignored then
    assert Source(load(tmp_path)[0]).presence == [[], [], [1]]


def maps(root, *values, kind=np.uint16):
    for i, row in enumerate(values):
        picture(root / "images" / f"{i}.jpg")
        rows = np.zeros((4, 6), kind)
        rows[0, : len(row)] = row
        picture(root / "masks" / f"{i}.tif", rows)


def test_65535_is_ignored_in_maps_of_16_bits(tmp_path):
    maps(tmp_path, [1, 3, 65535], [3, 2], [65535])
    name, records = load(tmp_path)
    source = Source(name)
    assert source.names == ["background", "class 1", "class 2", "class 3"]
    assert source.presence == [[1, 3], [2, 3], []]
    masks, ignore = class_masks(source.records[0], [1, 3])
    assert masks.sum((1, 2)).tolist() == [1, 1] and ignore.sum() == 1
    assert MetadataCatalog.get(name).ignore_label == 65535
    found = references_in(f"folder:{tmp_path}")
    labels = {c: m.sum() for _, own, names in found for c, m in zip(names, own, strict=True)}
    assert labels == {"class 1": 1, "class 2": 1, "class 3": 1}
    (tmp_path / "classes.txt").write_text("1 a\n2 b\n3 c\n255 d\n", encoding="utf-8-sig")
    maps(tmp_path, [1, 3, 65535], [255, 2])
    assert Source(load(tmp_path)[0]).presence == [[1, 3], [2, 255], []]


def test_maps_of_0_and_65535_are_binary(tmp_path):
    maps(tmp_path, [65535] * 5, [65535])
    source = Source(load(tmp_path)[0])
    assert source.names == ["class 65535"] and source.presence == [[0], [0]]
    assert class_masks(source.records[0], [0])[0].sum() == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (([1, 2], [-1]), "1.tif: a label map with the id -1; ids are from 0 to"),
        (([1, 2], [3, 900]), "1.tif shows the id 900, far above the number of classes, 4: are the"),
        ((range(24001, 24007), [1]), "0.tif shows the id 24006, far above .*, 7: are the maps of"),
        (
            ([1, 65535], [255]),
            "0.tif shows 65535, which .*, and .*1.tif shows 255: save all",
        ),
    ],
)
def test_ids_that_were_hardly_meant(tmp_path, values, message):
    maps(tmp_path, *values, kind=np.int32)
    with pytest.raises(ValueError, match=message):
        load(tmp_path)
    (tmp_path / "classes.txt").write_text("70000 cat\n")
    with pytest.raises(ValueError, match="an id up to 10000, found '70000 cat'"):
        load(tmp_path)


def test_masks_of_another_size_are_found_before_they_are_read(tmp_path):
    """As displayed: a turned picture has the size of its mask, which is not turned."""
    exif = Image.Exif()
    exif[274] = 6
    for layout, pairs in (("a", ["{}.jpg", "{}.png"]), ("b", ["images/{}.jpg", "masks/{}.png"])):
        root = tmp_path / layout if layout == "b" else tmp_path / layout / "cat"
        for i, (height, width) in enumerate(((4, 6), (6, 4), (5, 6), (4, 7))):
            image, mask = (root / p.format(i) for p in pairs)
            picture(image)
            if i == 1:
                Image.new("RGB", (6, 4)).save(image, exif=exif)
            picture(mask, np.ones((height, width), np.uint8))
        with pytest.raises(ValueError) as error:
            load(tmp_path / layout)
        text = str(error.value)
        for i, size in ((2, "6x5"), (3, "7x4")):
            image, mask = (root / p.format(i) for p in pairs)
            words = f"{image} ({mask}) is {size} px, the image as displayed is 6x4 px"
            assert words in text
        assert text.startswith("2 damaged or missing: ")
        with leaving_out() as left:
            assert len(load(tmp_path / layout)[1]) == 2 and len(left) == 2


def test_label_map_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(ValueError, match="no images in .*images"):
        load(tmp_path)
    picture(tmp_path / "images" / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"image without a mask: .*a\.jpg.*masks/a\.png"):
        load(tmp_path)
    picture(tmp_path / "masks" / "a.png", np.array([[0, 9]], np.uint8))
    picture(tmp_path / "masks" / "b.png")
    with pytest.raises(FileNotFoundError, match=r"mask without an image: .*b\.png"):
        load(tmp_path)
    picture(tmp_path / "images" / "b.jpg")
    (tmp_path / "classes.txt").write_text("1 cat\n")
    with pytest.raises(ValueError, match=r"a\.png shows the id 9.*classes\.txt"):
        load(tmp_path)
    (tmp_path / "classes.txt").write_text("1 cat\nnine dog\n")
    with pytest.raises(ValueError, match=r"classes\.txt, line 2.*'nine dog'"):
        load(tmp_path)


def test_names_that_say_where_the_data_are(tmp_path):
    toy.folder_a(tmp_path)
    assert Source(f"folder:{tmp_path / 'a'}").names == sorted(toy.NAMES)
    toy.coco(tmp_path)
    name = f"coco:{tmp_path / 'coco.json'}:{tmp_path / 'images'}"
    for _ in range(2):
        assert Source(name).names == toy.NAMES
    with pytest.raises(ValueError, match="coco:ANNOTATIONS.json:IMAGE_FOLDER"):
        Source("coco:annotations.json")


@pytest.mark.parametrize("line", ["1 dog", "2 cat"])
def test_a_class_is_named_once(tmp_path, line):
    maps(tmp_path, [1], [2])
    (tmp_path / "classes.txt").write_text(f"1 cat\n{line}\n")
    with pytest.raises(ValueError, match=f"line 2: '{line}': id or name was there before"):
        load(tmp_path)


def test_two_files_of_one_name_are_ambiguous(tmp_path):
    maps(tmp_path, [1], [2])
    image = next((tmp_path / "images").iterdir())
    picture(image.with_suffix(".webp"))
    with pytest.raises(ValueError, match="have one name: which is meant"):
        load(tmp_path)


def test_jpeg_keeps_no_ids(tmp_path):
    maps(tmp_path, [1], [2])
    mask = next((tmp_path / "masks").iterdir())
    noise = np.random.default_rng(0).integers(0, 99, (4, 6), np.uint8)
    Image.fromarray(noise).save(mask.with_suffix(".jpg"))
    mask.unlink()
    with pytest.raises(ValueError, match="a JPEG changes the ids of a label map: save it as PNG"):
        Source(load(tmp_path)[0])
