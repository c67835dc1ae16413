"""The evaluation "video": objects followed through whole videos, masks written and scored.

The loop over frames is ``predictor.VideoPredictor``, a room that this one does not import: it is
looked up by name when videos are followed, as ``predictor`` looks up ``engine.tune``.
"""

import importlib
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.utils import comm

from ...config.keys import check_config
from ...data.health.damaged import DamagedDataError, message, note
from ...data.health.label_cache import file_state
from ...data.videos import VideoClip, load_videos
from ...evaluation.object_scores import VideoScore
from ...io.submissions import TOP, write_submission
from ...utils.files import remove_leftovers, whole_folder, write_whole
from ..loop.progress import fingerprint
from .base import Evaluation, Results, common, write_results
from .video_run import faults, follow, share
from .video_scores import score_clip, summary_of

MASKS, ABOUT, SUBMISSION = "masks", "masks.json", "submission.zip"

logger = logging.getLogger(__name__)


class Video(Evaluation, name="video"):
    """Follows the given objects of each video by ``TEST.VIDEO`` and writes ``masks/VIDEO/*.png``
    and, in the layout of the set's server, ``submission.zip``; scores the videos whose truth is
    there. Whole videos are shared out over the processes. A video's folder appears whole; the same
    run goes on behind those that are there, also with another number of processes."""

    def run(self) -> Results:
        check_config(self.cfg, "TEST", "TEST.VIDEO")
        clips = self._checked(load_videos(self.dataset_name))
        if not self.output_dir:
            with tempfile.TemporaryDirectory() as folder:
                return self._run(clips, Path(folder))
        return self._run(clips, Path(self.output_dir))

    def _run(self, clips: Sequence[VideoClip], folder: Path) -> Results:
        masks = self._masks_folder(clips, folder)
        own = share([len(clip.frames) for clip in clips], comm.get_world_size())[comm.get_rank()]
        scores: dict[str, VideoScore] = {}
        mode = self.model.training
        try:
            for n, clip in enumerate(clips[i] for i in own):
                place = masks / clip.name
                if place.is_dir():
                    logger.info("%s is there already: %s", clip.name, place)
                else:
                    logger.info("video %d of %d: %s", n + 1, len(own), clip.name)
                    with whole_folder(place) as part:
                        follow(self._predictor(), clip, part, self.cfg.TEST.VIDEO.FRAMES)
                if clip.truth:
                    scores[clip.name] = score_clip(clip, place)
        finally:
            self.model.train(mode)
        gathered = comm.gather(scores)
        if not comm.is_main_process():
            return {}
        found = {name: own for part in gathered for name, own in part.items()}
        return self._report(clips, found, folder)

    def _predictor(self) -> Any:
        """A fresh ``VideoPredictor`` of the model."""
        room = importlib.import_module("segic_d2.predictor")  # it stands beside this one
        single = room.InContextPredictor.from_model(self.model, batch_size=self.cfg.TEST.BATCH_SIZE)
        return room.VideoPredictor(single, room.VideoOptions.from_config(self.cfg))

    def _checked(self, clips: Sequence[VideoClip]) -> list[VideoClip]:
        """The clips that can be followed; each process looks at a part of them. DamagedDataError:
        with ``TEST.DAMAGED`` "error", what is wrong with the others."""
        verify, part = self.cfg.TEST.VERIFY, slice(comm.get_rank(), None, comm.get_world_size())
        found = [fault for clip in clips[part] for fault in faults(clip, verify)]
        damaged = [fault for part in comm.all_gather(found) for fault in part]
        if damaged and self.cfg.TEST.DAMAGED == "error":
            raise DamagedDataError(message(damaged))
        note(damaged)
        gone = {fault.item for fault in damaged}
        kept = [clip for clip in clips if clip.name not in gone]
        if not kept:
            raise DamagedDataError(message(damaged))
        return kept

    def _masks_folder(self, clips: Sequence[VideoClip], folder: Path) -> Path:
        """Where masks are written; those of another run are removed."""
        masks, about = folder / MASKS, folder / ABOUT
        if comm.is_main_process():
            items = [(clip, [file_state(clip.maps[f]) for f in clip.given]) for clip in clips]
            own: dict[str, Any] = fingerprint(self.cfg, self.model, items)
            del own["processes"]  # a video is followed by one alone
            if masks.is_dir():
                remove_leftovers(masks)
                if not about.is_file() or json.loads(about.read_bytes()) != own:
                    logger.info("%s is of another run: made anew", masks)
                    shutil.rmtree(masks)
            masks.mkdir(parents=True, exist_ok=True)
            write_whole(about, json.dumps(own))
        comm.synchronize()
        return masks

    def _report(
        self, clips: Sequence[VideoClip], scores: Mapping[str, VideoScore], folder: Path
    ) -> Results:
        metrics, why, standard = summary_of(clips, scores)
        layout = clips[0].layout
        if self.output_dir and layout in TOP:
            wanted = {clip.name: clip.required for clip in clips}
            write_submission(folder / SUBMISSION, folder / MASKS, wanted, layout)
        content = {
            "benchmark": f"video-{layout}",
            "standard": standard,
            "note": why,
            "frames": self.cfg.TEST.VIDEO.FRAMES,
            "metrics": metrics,
            "objects": {
                video: {k: score.summary() for k, score in own.items()}
                for video, own in sorted(scores.items())
            },
        }
        about = common(self.cfg, self.name, self.dataset_name)
        write_results(self.output_dir, about | content)
        return {f"video-{layout}": metrics}
