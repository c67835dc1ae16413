"""Plans of references: images are drawn for the classes of a dataset. No image is read."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from detectron2.config import CfgNode

from ...utils.files import AnyPath
from ..datasets.class_list import background_ids
from ..episodes import generator
from ..health.damaged import NAMED, Damaged, report
from ..health.verify import verify_files
from ..index import Source, class_names, load_records
from ..records import record_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReferencePlan:
    """Which images of ``sources`` (``Source``, or others with ``records``) show which classes to
    the model.

    ``picks`` is {class id: [(source's position, image, the class's id there), …]}: classes ascend
    and have at least one pick; picks stand in the order in which they were drawn. ``names`` is
    {class id: name} of all classes of the target dataset but its background.
    """

    sources: list[Any]
    picks: dict[int, list[tuple[int, int, int]]]
    names: dict[int, str]

    def file(self, pick: tuple[int, int, int]) -> str:
        """The image file of a pick."""
        return self.sources[pick[0]].records[pick[1]]["file_name"]

    def first(self, shots: int, damaged: Collection[tuple[int, int]] = ()) -> ReferencePlan:
        """The plan with up to ``shots`` picks of each class, without damaged (source, image)."""
        usable = ((c, [p for p in own if p[:2] not in damaged]) for c, own in self.picks.items())
        return replace(self, picks={c: own[:shots] for c, own in usable if own})

    def readable(self, shots: int, full: bool = True) -> tuple[ReferencePlan, list[Damaged]]:
        """``first``, but an image whose files cannot be read is reported (``health.damaged``:
        DamagedDataError, unless left out) and makes way for the next one. ``full``: see
        ``verify_files``."""
        damaged, left_out = set(), []
        while True:
            plan = self.first(shots, damaged)
            files = {}
            for pick in itertools.chain(*plan.picks.values()):
                for file in record_files(self.sources[pick[0]].records[pick[1]]):
                    files.setdefault(file, pick[:2])
            found = {d.item: d for d in verify_files(files, full)}
            if not found:
                return plan, left_out
            report(list(found.values()))
            left_out += found.values()
            damaged |= {image for file, image in files.items() if file.path in found}


def cut_to_readable(
    cfg: CfgNode, plan: ReferencePlan, shots: int
) -> tuple[ReferencePlan, list[Damaged]]:
    """Cut a plan to ``shots`` references per class by ``readable``, as closely as ``TEST.DAMAGED``
    and ``TEST.VERIFY`` say."""
    if cfg.TEST.DAMAGED == "skip":
        return plan.readable(shots)
    if cfg.TEST.VERIFY == "none":
        return plan.first(shots), []
    return plan.readable(shots, full=cfg.TEST.VERIFY == "full")


def plan_references(
    cfg: CfgNode,
    dataset_names: Sequence[str],
    target_dataset: str,
    usable: Callable[[Source, int], bool] = lambda source, image: True,
) -> ReferencePlan:
    """Draw the images of every class of a dataset with ``TEST.SEED``; no picture is read.

    Classes are matched by name across datasets; ids are the target's. Two equal lists are matched
    by position, because a name may stand in them twice; a background in front of one of them does
    not count. ``usable`` says of (``Source``, number of an image) whether it may be a reference.
    ValueError: the datasets show no class of the target dataset.
    """
    sources = [Source(name) for name in dataset_names]
    target_names = class_names(target_dataset, load_records(target_dataset))
    hidden = background_ids(target_dataset, target_names)
    pools = {i: [] for i in range(len(target_names)) if i not in hidden}
    for number, source in enumerate(sources):
        ids = _same_classes(source.names, target_names)
        for image, classes in enumerate(source.presence):
            for c in classes if usable(source, image) else ():
                if ids.get(c) in pools:
                    pools[ids[c]].append((number, image, c))
    missing = [target_names[i] for i, pool in pools.items() if not pool]
    if len(missing) == len(pools):
        raise ValueError(
            f"{tuple(dataset_names)} show no class of dataset {target_dataset!r} in images that "
            "are usable as references (for instances: not its own); name other DATASETS.REFERENCE"
        )
    if missing:
        shown = ", ".join(map(str, missing[:NAMED]))
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        logger.warning("no references, so never predicted: %s%s", shown, more)
    picks = {}
    for class_id, pool in pools.items():
        if pool:
            order = generator(cfg.TEST.SEED, class_id).permutation(len(pool))
            picks[class_id] = [pool[i] for i in order]
    return ReferencePlan(sources, picks, {i: target_names[i] for i in pools})


def _same_classes(names, target_names):
    """{class id in one list: class id in the target's}."""
    for shift, own in ((0, names), (1, names[1:])):
        if own == target_names:
            return {i + shift: i for i in range(len(own))}
    if names == target_names[1:]:
        return {i: i + 1 for i in range(len(names))}
    ids = {n: i for i, n in enumerate(target_names)}
    return {i: ids[n] for i, n in enumerate(names) if n in ids}


_real = lru_cache(maxsize=1024)(os.path.realpath)  # of a folder


def same_file(path: AnyPath) -> str:
    """The path of a file with the links of its folder resolved."""
    folder, name = os.path.split(str(path))
    return os.path.join(_real(folder), name)
