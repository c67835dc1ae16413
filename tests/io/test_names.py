"""Names of results: no file overwrites another's, and names are safe."""

import pytest

from segic_d2.io.names import FileNames, distinct_stems, list_pictures, safe_name


def test_pictures_of_files_and_folders(tmp_path):
    hidden = ".cache/e.png", "deep/.f.png"
    for name in ("b.JPG", "a.png", "deep/er/c.tif", "out/d.png", "notes.txt", *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    found = list_pictures([tmp_path / "notes.txt", tmp_path, tmp_path / "a.png"], tmp_path / "out")
    # a file as given, whatever its suffix; a picture that is named twice once
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "notes.txt",
        "a.png",
        "b.JPG",
        "deep/er/c.tif",
    ]
    assert len(list_pictures([tmp_path])) == 4
    assert len(list_pictures([tmp_path / ".cache"])) == 1  # who asks for it gets it
    assert list_pictures(["absent.png"])[0].name == "absent.png"
    url = "https://example.org/a//b.jpg?c=d"
    assert list_pictures([url, tmp_path / "a.png", url]) == [url, tmp_path / "a.png"]
    assert list_pictures(["ftp://x/a.png"]) == [
        "ftp://x/a.png"
    ]  # whether it can be read shows then
    with pytest.raises(ValueError, match="no pictures in the folder .*empty"):
        list_pictures([tmp_path / "empty"])


def test_distinct_stems():
    paths = ["/d/a/x.png", "/d/b/x.png", "/d/b/X.jpg", "/d/b/y.png", "/e/b/x.png", "/d/a_x.png"]
    assert distinct_stems(paths) == ["a_x_png", "b_x", "b_X_jpg", "y", "b_x_png", "a_x"]
    assert distinct_stems(["https://x.org/p/x.jpg?s=2", "/a/q/x.png"]) == ["p_x", "q_x"]
    assert distinct_stems(["/a/p/x.png", "/b/p/x.png", "/c/p/x.png"]) == [
        "p_x",
        "p_x_png",
        "p_x_png_2",
    ]


def test_file_names():
    names = FileNames()
    assert names.take("x", "b_c", ".png") == "x_b_c.png"
    assert names.take("x_b", "c", ".png") == "x_b_c_2.png"
    assert names.take("X_B", "C", ".png") == "X_B_C_3.png"
    assert names.take("x", "b_c", ".jpg") == "x_b_c.jpg"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("../../etc/passwd", "etc_passwd"),
        ("traffic light / red", "traffic_light_red"),
        ("Hündin-2.b", "Hündin-2.b"),
        ("???", "unnamed"),
        ("a" * 300, "a" * 80),
        ("狐" * 300, "狐" * 66),  # 200 bytes
        ("𐐀" * 300, "𐐀" * 50),
        ("a\ud800b\x00\n\x1b[31m", "a_b_31m"),
        ("$\\frac{$", "frac"),
    ],
)
def test_safe_name(text, safe):
    assert safe_name(text) == safe


def test_the_folder_of_results_is_not_searched(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=f"no pictures in the folder {tmp_path} but results, whi"):
        list_pictures([tmp_path], leave_out=tmp_path)
