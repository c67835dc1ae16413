"""Who labels the chunks of a round: this process, several of them, or Ray's actors."""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from ...io.pictures import image_size
from ...structures.segmentation import Segmentation
from ...utils.devices import device_count
from ...utils.remote import first_line
from ...utils.store import fetch, is_remote
from ..run import end_with_parent
from .state import Record, Round

AHEAD = 2  # chunks per process that wait, so that none is idle
Labelled = tuple[int, list[Record]]  # a chunk, and what is in it


class Recipe(NamedTuple):
    """How ``predictor.predict`` is asked."""

    instances: bool = False
    min_score: float | None = None
    never_empty: bool = False  # where nothing is found, nothing is more doubtful


def label_pictures(predictor: Any, files: Sequence[str], how: Recipe) -> list[Record]:
    """The records of pictures, in order; one that cannot be read has an "error"."""
    with TemporaryDirectory(prefix="segic_d2-") as folder:
        local: dict[str, str] = {}  # file here → as it was asked for
        found: dict[str, Record] = {}
        for number, file in enumerate(files):
            try:
                local[_here(file, Path(folder) / str(number))] = file
            except OSError as error:
                found[file] = {"file": file, "error": first_line(error)}

        def skip(picture: object, error: Exception) -> None:
            file = local[str(picture)]
            found[file] = {"file": file, "error": first_line(error)}

        options: dict[str, Any] = {"instances": how.instances, "min_score": how.min_score}
        options |= {"with_doubt": True, "progress": False}
        for result in predictor.predict(list(local), on_error=skip, **options):
            file = local[result.file_name]
            found[file] = {"file": file, **_record(result)}
            if how.never_empty and not found[file]["things"]:
                found[file] |= {"doubt": 1.0, "most": 1.0, "why": "nothing found"}
        return [found[file] for file in files]


def _here(file: str, folder: Path) -> str:
    if not is_remote(file):
        return file
    folder.mkdir()
    return str(fetch(file, folder))


def _record(result: Segmentation) -> Record:
    shown = result.to_annotated()
    scores = [score for score, area in zip(result.scores, result.areas, strict=True) if area]
    rles: list[Any] = [thing.segmentation for thing in shown.things]
    things = [
        [thing.label, round(float(score), 4), rle["counts"]]
        for thing, score, rle in zip(shown.things, scores, rles, strict=True)
    ]
    about = {"size": list(shown.size), "names": list(shown.names), "things": things}
    assert result.doubt is not None  # it was asked for
    value, most, why = result.doubt
    return {**about, "doubt": round(value, 4), "most": round(most, 4), "why": why}


def alone(predictor: Any, work: Iterable[tuple[int, list[str]]], how: Recipe) -> Iterator[Labelled]:
    """Label chunks, (number, files) each, in this process."""
    for chunk, files in work:
        yield chunk, label_pictures(predictor, files, how)


def several(
    predictor: Any, work: Iterable[tuple[int, list[str]]], how: Recipe, processes: int
) -> Iterator[Labelled]:
    """Label chunks in processes of their own, each with its share of the cores, or a GPU; they come
    as they are done. ChildProcessError: a process ended by itself."""
    threads = max(1, (os.cpu_count() or 1) // processes)
    context = torch.multiprocessing.get_context("spawn")
    ranks = context.SimpleQueue()
    for rank in range(processes):
        ranks.put(rank)
    pool = ProcessPoolExecutor(processes, context, _start, (predictor, how, threads, ranks))
    work, waiting = iter(work), set[Future[Labelled]]()
    try:
        while True:
            for chunk, files in itertools.islice(work, AHEAD * processes - len(waiting)):
                waiting.add(pool.submit(_label, chunk, files))
            if not waiting:
                break
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a process that labels ended by itself, perhaps for lack of memory; what is done stays:"
            " run the same again, with fewer processes"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_own: dict[str, Any] = {}  # what a process labels with


def _start(predictor: Any, how: Recipe, threads: int, ranks: Any) -> None:
    end_with_parent()  # which may be killed, and then tells nobody
    torch.set_num_threads(threads)
    _own.update(predictor=_placed(predictor, ranks.get()), how=how)


def _placed(predictor: Any, rank: int) -> Any:
    """The predictor on the GPU of a process, where it is on a GPU and there are several."""
    device = predictor.model.device
    if device.type != "cpu" and device_count(device.type) > 1:
        device = torch.device(device.type, rank % device_count(device.type))
        predictor.model.to(device)
        predictor.context = predictor.context.to(device)
    return predictor


def _label(chunk: int, files: list[str]) -> Labelled:
    return chunk, label_pictures(_own["predictor"], files, _own["how"])


class _Actor:
    """Labels chunks in a process of Ray's."""

    def __init__(self, reference: Any, how: Recipe, threads: int) -> None:
        import ray

        torch.set_num_threads(threads)
        self.predictor, self.how = ray.get(reference), how

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        records = label_pictures(self.predictor, json.loads(row["files"]), self.how)
        return {"chunk": row["chunk"], "records": json.dumps(records)}


def by_ray(
    predictor: Any, work: Iterable[tuple[int, list[str]]], how: Recipe, actors: int
) -> Iterator[Labelled]:
    """Label chunks by Ray Data, on the cluster that ``RAY_ADDRESS`` names or on this machine; an
    actor that dies is started anew, and its chunks are labelled again. ``actors``: how many; each
    has a core, or a GPU. ImportError: Ray is missing."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("labelling with Ray needs: pip install 'segic_d2[ray]'") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False  # there is one already
    rows = [{"chunk": chunk, "files": json.dumps(files)} for chunk, files in work]
    if not rows:
        return
    gpu = predictor.model.device.type != "cpu"
    options = {"reference": ray.put(predictor), "how": how, "threads": 1}
    resources: dict[str, Any] = {"num_gpus": 1} if gpu else {"num_cpus": 1}
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    actor: Any = _Actor
    labelled = data.map(actor, fn_constructor_kwargs=options, concurrency=actors, **resources)
    for row in labelled.iter_rows():
        yield int(row["chunk"]), json.loads(row["records"])


def missing_work(state: Round) -> Iterator[tuple[int, list[str]]]:
    """The chunks of a round that nobody has labelled yet, with their files."""
    for chunk in state.missing():
        yield chunk, state.files(chunk)


def forget_changed(state: Round) -> None:
    """Forget the chunks of an interrupted round with a picture that has gone since, or has another
    size, so that they are labelled again."""
    size, missing = state.chunk_size(), set(state.missing())
    for chunk in range(-(-len(state.plan) // size)):
        if chunk in missing or all(map(is_remote, state.files(chunk))):
            continue
        if any(map(changed, state.records_of(chunk))):
            state.forget(chunk)


def changed(record: Record) -> bool:
    """Whether the picture of a record, on this machine, has gone since, or has another size."""
    if "error" in record or is_remote(record["file"]):
        return False
    try:
        return list(image_size(record["file"])) != record["size"]
    except (OSError, ValueError):
        return True
