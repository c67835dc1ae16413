"""FSS-1000 as HSNet defined it: 240 test classes of ten images, each image the target once.

Class ids go on from the 520 classes of training and 240 of validation: 760 + the position in the
sorted list. References are drawn from the class's other nine images: numpy's legacy generator,
seed 0.
"""

import numpy as np

from ...io.masks import read_grey
from ..datasets.folder import class_title
from ..health.verify import File
from .base import (
    EpisodeList,
    FewShotEpisode,
    Sample,
    datasets_root,
    draw_references,
    find_list,
    is_published,
    register_benchmark,
    register_reader,
)

FIRST_CLASS, IMAGES, FOREGROUND = 760, 10, 128
FOLDER = "FSS-1000"
PUBLISHED = "55ba10cea1c9dfc5"
LISTS = ["splits/test.txt", "splits/fss/test.txt", "fss/test.txt", "fss1000_test.txt", "test.txt"]


@register_benchmark(
    "fss1000",
    1,
    folders=(FOLDER,),
    one_of=lambda fold: [f"{FOLDER}/{name}" for name in LISTS],
)
def fss1000(fold, shots, lists=None):
    """The episodes of the test split: 2,400 with the published list of 240 classes.

    Raises:
        FileNotFoundError: the list (``splits/test.txt``) is not there.
        ValueError: it is empty.
    """
    folder = lists or datasets_root() / FOLDER
    file = find_list(folder, LISTS)
    if file is None:
        raise FileNotFoundError(f"FSS-1000: none of {', '.join(LISTS)} in {folder}")
    folders = sorted(file.read_text(encoding="utf-8").split())
    if not folders:
        raise ValueError(f"{file} names no class")
    published = is_published(folders, PUBLISHED)
    rng = np.random.RandomState(0)
    episodes = []
    for i, name in enumerate(folders):
        images = [f"{name}/{number}.jpg" for number in range(1, IMAGES + 1)]
        for target in sorted(images):  # as text: 1, 10, 2, …
            references = draw_references(rng, images, target, shots)
            episodes.append(FewShotEpisode(FIRST_CLASS + i, target, references))
    return EpisodeList(
        benchmark="fss1000",
        fold=fold,
        shots=shots,
        classes={FIRST_CLASS + i: class_title(name) for i, name in enumerate(folders)},
        episodes=episodes,
        standard=published,
        note="" if published else f"{file} is not the published list",
    )


@register_reader("fss1000")
class Fss1000Reader:
    """``<class>/<number>.jpg`` with the mask ``<class>/<number>.png``, foreground from 128 up."""

    note = ""

    def __init__(self, episodes, lists=None):
        self.root = str(datasets_root() / FOLDER)

    def read(self, file_name, class_id, object=None):
        """See ``READER_REGISTRY``."""
        image, mask = self._paths(file_name)
        return Sample(image, read_grey(mask) >= FOREGROUND)

    def files(self, file_name):
        """See ``READER_REGISTRY``."""
        image, mask = self._paths(file_name)
        return [File(image, "image"), File(mask, "mask")]

    def _paths(self, file_name):
        image = f"{self.root}/{file_name}"
        return image, image.removesuffix(".jpg") + ".png"
