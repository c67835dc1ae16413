"""The protocol "real pairs": every ordered pair (reference, target) of a class is an episode."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ...io.masks import read_binary_mask
from ...io.pictures import read_image
from ...structures.episode import Episode, Reference, Target
from ...structures.picture import Picture
from ..datasets.folder import class_title, pair_files
from ..health.verify import File
from ..mappers.few_shot import FewShotMapper
from .base import EpisodeList, FewShotEpisode, Sample

logger = logging.getLogger(__name__)

Change = Callable[[np.ndarray], np.ndarray]  # of data.augmentation.degrade


class PairFolder:
    """A folder of class folders, CLASS/N.jpg with its mask CLASS/N.png; a reader of its pixels (see
    ``READER_REGISTRY``). A class's id is its place among the sorted names. FileNotFoundError: no
    such folder, or a picture or mask without the other; ValueError: no class folder, or a class
    with less than two examples."""

    note = ""

    def __init__(self, folder: str | Path) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise FileNotFoundError(f"no such folder: {root}")
        self.root = str(root)
        self.masks: dict[str, dict[str, str]] = {}  # of each class, by picture
        for own in sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")):
            pairs = {str(picture): str(mask) for picture, mask in pair_files(own)}
            if len(pairs) < 2:
                raise ValueError(f"{own} has {len(pairs)} picture(s) with a mask; a pair needs two")
            self.masks[class_title(own.name)] = pairs
        if not self.masks:
            raise ValueError(f"{root} has no class folders (CLASS/N.jpg with its mask CLASS/N.png)")
        self.classes = dict(enumerate(self.masks))
        self._all = {k: v for pairs in self.masks.values() for k, v in pairs.items()}

    def read(self, file_name: str, class_id: int, object: int | None = None) -> Sample:
        """See ``READER_REGISTRY``; of another class than its own a picture shows nothing.
        ValueError: naming the mask, if it is empty."""
        mask = read_binary_mask(self._all[file_name])
        if not mask.any():
            raise ValueError(f"{self._all[file_name]} is an empty mask")
        own = file_name in self.masks[self.classes[class_id]]
        return Sample(file_name, mask if own else np.zeros_like(mask))

    def files(self, file_name: str) -> list[File]:
        return [File(file_name, "image"), File(self._all[file_name], "mask")]

    def episodes(self, shots: int = 1, seed: int = 0) -> EpisodeList:
        """All episodes; with 1 shot these are all ordered pairs.

        For each pair (reference, target) the other shots - 1 references are drawn from the rest
        with the seed, class by class; a class of n ≤ shots pictures has n - 1. Equal sets of a
        target count once. ValueError: shots below 1.
        """
        if shots < 1:
            raise ValueError(f"shots is {shots}; it must be at least 1")
        found: dict[FewShotEpisode, None] = {}  # in order, each once
        for label, pairs in enumerate(self.masks.values()):
            names, rng = list(pairs), np.random.default_rng([seed, label])
            more = min(shots, len(names) - 1) - 1
            if more + 1 < shots:
                few = "%s: %d pictures, so that a target has %d references, not %d"
                logger.warning(few, self.classes[label], len(names), more + 1, shots)
            for target in range(len(names)):
                for reference in (i for i in range(len(names)) if i != target):
                    rest = [i for i in range(len(names)) if i not in (reference, target)]
                    others = rng.choice(rest, more, replace=False).tolist() if rest else []
                    shown = tuple(names[i] for i in sorted([reference, *others]))
                    found[FewShotEpisode(label, names[target], shown)] = None
        return EpisodeList("real_pairs", 0, shots, self.classes, list(found), standard=False)

    def absent(self, episodes: EpisodeList, seed: int = 0) -> EpisodeList:
        """Draw, for each episode, one whose target shows nothing of the references' class, nor has
        the pixels of a picture that does. ValueError: every picture shows every class."""
        pixels = {f: hashlib.sha256(read_image(f).tobytes()).digest() for f in self._all}
        free = []
        for pairs in self.masks.values():
            own = {pixels[file] for file in pairs}
            free.append([file for file in self._all if pixels[file] not in own])
        rng, found = np.random.default_rng([seed, 1]), []
        for episode in (e for e in episodes.episodes if free[e.class_id]):
            others = free[episode.class_id]
            found.append(replace(episode, target=others[int(rng.integers(len(others)))]))
        if not found:
            raise ValueError("no picture is without a class: absence cannot be measured")
        return replace(episodes, episodes=found)


class PairMapper(FewShotMapper):
    """A ``FewShotMapper`` of groups of episodes, which makes each view once. Several mappers may
    share ``known``, the plain views. ``mask`` makes the masks of references worse, bool (H, W), and
    ``picture`` targets, uint8 (H, W, 3), whose truth stays as it is; None: as they are."""

    def __init__(
        self,
        cfg: CfgNode,
        reader: PairFolder,
        known: dict[Any, dict[str, Any]],
        mask: Change | None = None,
        picture: Change | None = None,
    ) -> None:
        super().__init__(cfg, reader.classes, reader)
        self.known, self.worse, self.mask, self.picture = known, dict[Any, Any](), mask, picture

    def __call__(self, item: Sequence[dict[str, Any]]) -> list[Episode]:
        return [super(PairMapper, self).__call__(x) for x in item]

    def files(self, item: Sequence[dict[str, Any]]) -> Iterator[File]:
        for x in item:
            yield from super().files(x)

    def target(self, *key: Any) -> Target:
        if key not in self.known:
            self.known[key] = super().target(*key)
        plain = self.known[key]
        if self.picture and key not in self.worse:
            picture = Picture(self.picture(read_image(plain["file_name"])))
            self.worse[key] = {**plain, **self.input.target(picture)}
        return self.worse[key] if self.picture else plain

    def reference(self, *key: Any) -> Reference:
        place = "reference", key
        if place not in self.known:
            self.known[place] = super().reference(*key)
        plain = self.known[place]
        if self.mask and place not in self.worse:
            mask = self.mask(self.reader.read(*key).mask)
            view = self.input.reference(Picture(plain["file_name"]), mask[None])
            self.worse[place] = {**plain, **view, "key": (*key, self.mask)}
        return self.worse[place] if self.mask else plain
