import zipfile

import numpy as np
import pytest
from PIL import Image

from segic_d2.io.submissions import write_submission
from segic_d2.io.video_masks import write_video_mask

FRAMES = {"dogs": ["00000", "00005"], "a b": ["00010"]}


@pytest.fixture
def masks(tmp_path):
    for video, names in FRAMES.items():
        for name in [*names, "99999"]:  # one that the server did not ask for
            write_video_mask(tmp_path / "masks" / video / f"{name}.png", np.eye(6, 8, dtype=int))
    return tmp_path / "masks"


LAYOUTS = {"davis17": "", "mose": "", "ytvos": "Annotations/", "lvos": "Annotations/"}


@pytest.mark.parametrize("benchmark, top", LAYOUTS.items())
def test_the_layout_of_each_server(masks, tmp_path, benchmark, top):
    write_submission(tmp_path / "x.zip", masks, FRAMES, benchmark)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.namelist() == [
            f"{top}a b/00010.png", f"{top}dogs/00000.png", f"{top}dogs/00005.png"
        ]  # fmt: skip
        data = archive.read(f"{top}dogs/00005.png")
    assert data == (masks / "dogs/00005.png").read_bytes()
    first = (tmp_path / "x.zip").read_bytes()
    turned = {video: FRAMES[video][::-1] for video in reversed(FRAMES)}
    write_submission(tmp_path / "x.zip", masks, turned, benchmark)
    assert (tmp_path / "x.zip").read_bytes() == first


def test_what_a_server_would_refuse_is_one_line(masks, tmp_path):
    def refused(error, match, frames=FRAMES, benchmark="davis17"):
        with pytest.raises(error, match=match) as found:
            write_submission(tmp_path / "x.zip", masks, frames, benchmark)
        assert "\n" not in str(found.value) and not (tmp_path / "x.zip").exists()

    refused(ValueError, "'davis' *: choose one of davis17, mose, ytvos, lvos", benchmark="davis")
    refused(ValueError, "x.zip: there is no frame to submit", {"dogs": []})
    gone = {**FRAMES, "cats": ["00000", "00001"]}
    refused(FileNotFoundError, "2 of 5 masks are missing: .*cats.00000.png", gone)
    write_video_mask(masks / "dogs/00005.png", np.eye(8, 6, dtype=int))
    refused(ValueError, "dogs.00005.png is 6x8 px, 00000.png 8x6 px")
    Image.new("RGB", (8, 6)).save(masks / "dogs/00005.png")
    refused(ValueError, "00005.png has the mode 'RGB': ids are one channel of 8 bits")
