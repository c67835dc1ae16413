"""A video that is saved and goes on."""

import numpy as np
import pytest

from segic_d2.predictor import VideoPredictor
from tests.predictor.clips import (
    colour_predictor,
    followed,
    frame,
    video,
)


@pytest.mark.parametrize("kind", ["first", "fifo", "last"])
def test_a_saved_video_goes_on_identically(colours, kind, tmp_path):
    made, _ = followed(colours, range(5), kind=kind, window=0.5)
    made.save(tmp_path / "state.safetensors")
    again = video(colours, window=0.5)
    again.load(tmp_path / "state.safetensors")
    assert again.frame_number == 5 and again.options.memory.kind == kind
    for number in range(5, 8):
        one, other = made.step(frame(number)), again.step(frame(number))
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.logits, other.logits)
        np.testing.assert_array_equal(one.label_map(), other.label_map())
    assert made.memory.bytes == again.memory.bytes


def test_files_of_others_are_refused(colours, tmp_path):
    made, _ = followed(colours, range(1))
    with pytest.raises(FileNotFoundError, match="missing"):
        made.load(tmp_path / "missing")
    made.memory.read().save(tmp_path / "context.safetensors")
    with pytest.raises(ValueError, match="no file of a video"):
        made.load(tmp_path / "context.safetensors")
    made.save(tmp_path / "state.safetensors")
    other = VideoPredictor(colour_predictor("INPUT.REFERENCE_ZOOM", 0.5))
    with pytest.raises(ValueError, match=r"another model: .*zoom: file 0.7, model 0.5"):
        other.load(tmp_path / "state.safetensors")
    assert made.objects == {1: None, 3: None}
