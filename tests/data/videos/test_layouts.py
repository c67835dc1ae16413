"""Miniature sets of videos as their readers see them, and what is wrong with others."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from segic_d2.data.videos import load_videos
from segic_d2.data.videos.layouts import read_folder
from segic_d2.io.video_masks import write_video_mask
from tests.miniatures import videos
from tests.miniatures.videos import make_davis, make_lvos, make_mose, make_ytvos
from tests.predictor.clips import SIZE


def load(root, name):
    with videos.registered(root):
        return load_videos(name)


def shown(clip):
    """The ids that are given, by frame."""
    return {f: sorted({*np.unique(clip.given_labels(f)).tolist()} - {0}) for f in clip.given}


def test_davis(tmp_path):
    make_davis(tmp_path)
    alpha, beta = load(tmp_path, "davis17_val")
    assert (alpha.name, beta.name) == ("alpha", "beta") and alpha.truth and beta.truth
    assert alpha.required == tuple(f"{n:05d}" for n in range(5)) == (*alpha.frames,)
    assert shown(alpha) == {"00000": [1, 3]} and alpha.size == SIZE
    assert alpha.frame("00001").shape == (*SIZE, 3)
    one, _ = load(tmp_path, "davis16_val")
    assert one.layout == "davis16" and shown(one) == {"00000": [1]}
    both = (one.given_labels("00000") > 0) == (alpha.given_labels("00000") > 0)
    assert both.all()


def test_davis_2016_of_its_own_archive(tmp_path):
    """0 and 255, and a list of pairs of paths; also a level in between, and larger pictures."""
    make_davis(tmp_path)
    (tmp_path / "DAVIS").rename(tmp_path / "DAVIS16")
    home = tmp_path / "DAVIS16"
    for file in home.glob("Annotations/480p/*/*.png"):
        pixels = np.asarray(Image.open(file)) > 0
        Image.fromarray(pixels.astype(np.uint8) * 255).save(file)
    (home / "ImageSets/2016/val.txt").unlink()
    (home / "ImageSets/480p").mkdir()
    lines = [f"/JPEGImages/480p/beta/{n:05d}.jpg /Annotations/480p/beta/0.png\n" for n in range(4)]
    (home / "ImageSets/480p/val.txt").write_text("".join(lines))
    (clip,) = load(tmp_path, "davis16_val")
    assert clip.name == "beta" and shown(clip) == {"00000": [1]}


def test_davis_with_a_level_in_between_and_larger_pictures(tmp_path):
    make_davis(tmp_path / "there", truth=False)
    home = tmp_path / "DAVIS/2017/trainval"
    home.parent.mkdir(parents=True)
    (tmp_path / "there/DAVIS").rename(home)
    (home / "JPEGImages/480p").rename(home / "JPEGImages/Full-Resolution")
    for file in home.glob("JPEGImages/*/*/*.jpg"):
        image = Image.open(file)
        image.resize((image.width * 2 + 2, image.height * 2)).save(file)
    alpha, _ = load(tmp_path, "davis17_val")
    assert not alpha.truth and alpha.frame("00002").shape == (*SIZE, 3)
    alpha.check()


def test_ytvos(tmp_path):
    make_ytvos(tmp_path / "a")
    alpha, beta = load(tmp_path / "a", "ytvos18_valid")
    stems = tuple(f"{5 * n:05d}" for n in range(5))
    assert alpha.required == stems == (*alpha.frames,) and not alpha.truth
    assert shown(alpha) == {"00000": [1], "00010": [3]}
    assert alpha.listed == {1: stems, 3: stems[2:]} and alpha.seen == {1: True, 3: False}
    assert beta.seen == {1: True}
    make_ytvos(tmp_path / "b", truth=True, every_frame=True)
    alpha, _ = load(tmp_path / "b", "ytvos18_valid")
    assert alpha.truth and len(alpha.frames) == 21 and alpha.required == stems
    assert shown(alpha) == {"00000": [1], "00010": [3]}  # not the object 1 again


def test_mose_and_lvos(tmp_path):
    make_mose(tmp_path)
    make_lvos(tmp_path)
    alpha, _ = load(tmp_path, "mose_valid")
    assert shown(alpha) == {"00000": [1, 3]} and not alpha.truth and len(alpha.required) == 5
    alpha, beta = load(tmp_path, "lvos_valid")
    assert shown(alpha) == {"00000001": [1], "00000011": [3]} and alpha.truth
    assert alpha.ranges == {1: (1, 26), 3: (11, 26)}
    assert alpha.seen == {1: True, 3: True} and beta.seen == {1: False}


def test_a_folder_gives_each_object_once_or_all_its_masks(tmp_path):
    make_ytvos(tmp_path / "a", truth=True)
    make_ytvos(tmp_path / "b")
    home = "YouTubeVOS/2018/valid"
    alpha, _ = load_videos(f"vos:{tmp_path / 'a' / home}")
    assert alpha.truth and shown(alpha) == {"00000": [1], "00010": [3]}
    alpha, _ = read_folder(tmp_path / "b" / home)
    assert not alpha.truth and shown(alpha) == {"00000": [1], "00010": [3]}
    for file in (tmp_path / "a" / home).glob("*/beta/000[01]*"):
        if file.stem in ("00000", "00005"):
            file.unlink()
    assert not load_videos(f"vos:{tmp_path / 'a' / home}")[1].truth  # two frames
    assert alpha.layout == "folder" and alpha.given == {"00000": None, "00010": None}


def fault(root, name):
    """What reading and checking a set raises."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        for clip in load(root, name):
            clip.check()
    text = str(error.value)
    assert "\n" not in text
    return text


def test_a_missing_frame_mask_or_list_is_named(tmp_path):
    make_davis(tmp_path)
    home = tmp_path / "DAVIS"
    kept = (home / "JPEGImages/480p/alpha/00002.jpg").read_bytes()
    (home / "JPEGImages/480p/alpha/00002.jpg").unlink()
    assert "alpha lacks the frame 00002, which has a mask" in fault(tmp_path, "davis17_val")
    (home / "Annotations/480p/alpha/00002.png").unlink()
    assert "alpha lacks the frame 00002" in fault(tmp_path, "davis17_val")
    (home / "JPEGImages/480p/alpha/00002.jpg").write_bytes(kept)
    assert "alpha lacks the mask of the frame 00002" in fault(tmp_path, "davis17_val")
    (home / "Annotations/480p/alpha/00000.png").unlink()
    assert "alpha lacks the mask of its first frame, 00000" in fault(tmp_path, "davis17_val")
    (home / "ImageSets/2017/val.txt").unlink()
    assert "ImageSets/2017/val.txt, the list" in fault(tmp_path, "davis17_val")


def test_a_mask_of_colours_another_size_or_255_is_named(tmp_path):
    make_mose(tmp_path)
    file = tmp_path / "MOSE/valid/Annotations/beta/00000.png"
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[:60] = 200, 30, 9
    Image.fromarray(colours).save(file)
    text = fault(tmp_path, "mose_valid")
    assert str(file) in text and "coloured" in text
    write_video_mask(file, np.ones((50, 50), np.uint8))
    text = fault(tmp_path, "mose_valid")
    assert "beta/00000.jpg is 168x112 px, the masks of the video beta 50x50" in text
    void = np.ones(SIZE, np.uint8)
    void[:9] = 255
    Image.fromarray(void).save(file)
    assert f"{file} has the value 255, which is void" in fault(tmp_path, "mose_valid")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(file)
    assert "no object is given in the video beta" in fault(tmp_path, "mose_valid")


def test_later_masks_of_another_size_are_named(tmp_path):
    make_ytvos(tmp_path)
    file = tmp_path / "YouTubeVOS/2018/valid/Annotations/alpha/00010.png"
    write_video_mask(file, np.full((56, 84), 3, np.uint8))
    text = fault(tmp_path, "ytvos18_valid")
    assert f"{file} is 84x56 px, the first mask of the video alpha 168x112 px" == text


def test_truth_of_another_size_or_with_255_is_named_where_all_is_read(tmp_path):
    make_mose(tmp_path, truth=True)
    file = tmp_path / "MOSE/valid/Annotations/beta/00002.png"
    _, beta = load(tmp_path, "mose_valid")
    beta.check(full=True)
    Image.fromarray(np.full(SIZE, 255, np.uint8)).save(file)
    beta.check()
    with pytest.raises(ValueError, match=f"{file} has the value 255"):
        beta.check(full=True)
    write_video_mask(file, np.ones((56, 84), np.uint8))
    with pytest.raises(ValueError, match=f"{file} is 84x56 px, the first mask"):
        beta.check(full=True)


def test_a_name_that_leads_elsewhere_is_refused(tmp_path):
    make_mose(tmp_path)
    clip = load(tmp_path, "mose_valid")[0]
    with pytest.raises(ValueError, match="'../x' is no name of a video"):
        replace(clip, name="../x")


def test_void_of_davis_is_no_object(tmp_path):
    make_davis(tmp_path)
    file = tmp_path / "DAVIS/Annotations/480p/beta/00000.png"
    pixels = np.array(Image.open(file))
    pixels[:9] = 255
    Image.fromarray(pixels).save(file)
    _, beta = load(tmp_path, "davis17_val")
    assert shown(beta) == {"00000": [1]} and not beta.given_labels("00000")[:9].any()


def test_disagreement_of_meta_and_masks_is_named(tmp_path):
    make_ytvos(tmp_path)
    home = tmp_path / "YouTubeVOS/2018/valid"
    late = home / "Annotations/alpha/00010.png"
    kept = late.read_bytes()
    write_video_mask(late, np.full(SIZE, 7, np.uint8))
    assert f"{late} shows the id 7; the video alpha has the objects 1, 3" == fault(
        tmp_path, "ytvos18_valid"
    )
    write_video_mask(late, np.full(SIZE, 1, np.uint8))
    assert f"{late} does not show the object 3 of the video alpha" in fault(
        tmp_path, "ytvos18_valid"
    )
    late.unlink()
    assert "alpha lacks the mask of the frame 00010, where the objects 3" in fault(
        tmp_path, "ytvos18_valid"
    )
    late.write_bytes(kept)
    (home / "JPEGImages/alpha/00015.jpg").unlink()
    assert "alpha lacks the frame 00015" in fault(tmp_path, "ytvos18_valid")
    (home / "meta.json").write_text(json.dumps({"videos": {"alpha": {"objects": {}}}}))
    assert "meta.json: the video alpha has no objects" in fault(tmp_path, "ytvos18_valid")
    (home / "meta.json").write_text("[]")
    assert 'meta.json has no "videos"' in fault(tmp_path, "ytvos18_valid")


def test_ranges_of_lvos_that_do_not_fit_are_named(tmp_path):
    make_lvos(tmp_path)
    file = tmp_path / "LVOS/valid_meta.json"
    about = json.loads(file.read_text())
    about["videos"]["alpha"]["objects"]["3"]["frame_range"]["start"] = "12"
    file.write_text(json.dumps(about))
    assert "alpha lacks the frame 12, where the object 3 starts" in fault(tmp_path, "lvos_valid")
    del about["videos"]["alpha"]["objects"]["3"]["frame_range"]
    file.write_text(json.dumps(about))
    assert "the object 3 of alpha has no frame_range" in fault(tmp_path, "lvos_valid")
