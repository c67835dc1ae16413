"""FSS-1000 as HSNet defined it: 240 test classes of ten images, each image the target once.

Class ids are 760 + the position in the sorted list (after 520 classes of training and 240 of
validation). References are drawn from the class's other images: numpy's legacy generator, seed 0.
"""

import numpy as np

from ...io.masks import read_grey
from ...utils.files import AnyPath
from ..datasets.folder import class_title
from ..records import File
from . import base
from .base import EpisodeList, FewShotEpisode, Sample, datasets_root

FIRST_CLASS, IMAGES, FOREGROUND = 760, 10, 128
FOLDER = "FSS-1000"
PUBLISHED = "55ba10cea1c9dfc5"
LISTS = ["splits/test.txt", "splits/fss/test.txt", "fss/test.txt", "fss1000_test.txt", "test.txt"]


@base.register_benchmark(
    "fss1000", 1, folders=(FOLDER,), one_of=lambda fold: [f"{FOLDER}/{name}" for name in LISTS]
)
def fss1000(fold: int, shots: int, lists: AnyPath | None = None) -> EpisodeList:
    """The episodes of the test split: 2,400 with the published list of 240 classes.
    FileNotFoundError: the list (``splits/test.txt``) is not there; ValueError: it is empty."""
    folder = lists or datasets_root() / FOLDER
    file = base.find_list(folder, LISTS)
    if file is None:
        raise FileNotFoundError(f"FSS-1000: none of {', '.join(LISTS)} in {folder}")
    folders = sorted(file.read_text(encoding="utf-8").split())
    if not folders:
        raise ValueError(f"{file} names no class")
    published = base.is_published(folders, PUBLISHED)
    rng, episodes = np.random.RandomState(0), []
    for i, name in enumerate(folders):
        images = [f"{name}/{number}.jpg" for number in range(1, IMAGES + 1)]
        for target in sorted(images):  # as text: 1, 10, 2, …
            references = base.draw_references(rng, images, target, shots)
            episodes.append(FewShotEpisode(FIRST_CLASS + i, target, references))
    classes = {FIRST_CLASS + i: class_title(name) for i, name in enumerate(folders)}
    note = "" if published else f"{file} is not the published list"
    return EpisodeList("fss1000", fold, shots, classes, episodes, published, note)


@base.register_reader("fss1000")
class Fss1000Reader:
    """``<class>/<number>.jpg`` with the mask ``<class>/<number>.png``, foreground from 128 up."""

    note = ""

    def __init__(self, episodes: EpisodeList, lists: AnyPath | None = None) -> None:
        self.root = str(datasets_root() / FOLDER)

    def read(self, file_name: str, class_id: int, object: int | None = None) -> Sample:
        image, mask = self._paths(file_name)
        return Sample(image, read_grey(mask) >= FOREGROUND)

    def files(self, file_name: str) -> list[File]:
        image, mask = self._paths(file_name)
        return [File(image, "image"), File(mask, "mask")]

    def _paths(self, file_name):
        image = f"{self.root}/{file_name}"
        return image, image.removesuffix(".jpg") + ".png"
