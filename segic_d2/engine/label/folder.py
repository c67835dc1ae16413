"""A folder of pictures → a folder of labels, in rounds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ...io.annotations import format_of, require_writable
from ...io.formats import pictures_among
from ...io.names import list_pictures
from ...structures.context import Context
from ...utils.claim import Claim
from ...utils.files import AnyPath
from ...utils.store import Store, files_below, is_remote
from .corrections import corrected_records, joined_context
from .report import LabelReport, finish, report_of
from .state import Record, Round
from .tuned import forget_weights, tune_on_records, use_weights
from .work import Recipe, alone, by_ray, changed, forget_changed, missing_work, several

POLYGONS = {"labelme": 1.0, "yolo": 1.0}  # formats that are polygons, and their tolerance, px


class Workers(NamedTuple):
    """Who labels: this process; several ``processes``; or that many actors of ``ray``."""

    processes: int = 1
    ray: bool = False
    progress: bool = True


ONE = Workers()


def label_folder(
    predictor: Any,
    pictures: AnyPath | Sequence[AnyPath],
    output: AnyPath,
    kind: str = "coco",
    *,
    instances: bool = False,
    min_score: float | None = None,
    never_empty: bool = False,
    tolerance: float | None = None,
    names: Mapping[str, str] | None = None,
    workers: Workers = ONE,
    about: Mapping[str, Any] | None = None,
) -> LabelReport:
    """Label the pictures of folders by a predictor's references, as round 1 in ``output``: labels
    and copies of the pictures in ``round-1/labels``, the pictures by how doubtful they are in
    ``round-1/review.csv``, the most doubtful ones in ``round-1/review.html``. What was interrupted
    goes on by the same call; what is finished stays as it is.

    Args:
        predictor: an ``InContextPredictor`` with references.
        pictures: folders with their subfolders, files, or folders of other machines (s3://…).
        output: a folder, here or on another machine; ``pictures`` are never written to.
        kind: "coco", "labelme", "yolo", "cvat", "labelstudio" or "masks".
        instances: each object by itself. min_score: as of ``predictor.predict``.
        never_empty: every picture shows something: where nothing is found, doubt is 1.
        tolerance: px between the edge of a mask and its polygon, at most; None: 1 in formats of
            polygons (labelme, YOLO), exact masks elsewhere; in COCO and CVAT a number asks for
            polygons.
        names: class → its name in the files. about: what the caller wants to find in label.json.

    Raises:
        RuntimeError: no references. ValueError: a format or tolerance that cannot be, no pictures,
            a round that was begun with other arguments, or another process labels there.
            ChildProcessError: a process ended by itself.
    """
    context = predictor.context
    if context is None:
        raise RuntimeError("no references: call set_references or load_context first")
    require_writable(kind, tolerance)
    if instances:
        predictor.model.require_objects()
    asked = {
        "format": kind,
        "pictures": _places(pictures),
        "instances": instances,
        "min_score": min_score,
        "never_empty": never_empty,
        "tolerance": POLYGONS.get(kind) if tolerance is None else tolerance,
        "names": dict(names or {}),
        "batch": predictor.batch_size,
    }
    store = Store(_absolute(output))
    with _claimed(store):
        state = Round(store, 1)
        if state.begun:
            state.check(asked, context)
        else:
            asked["about"] = dict(about or {})
            state.begin(asked, context, _plan(asked["pictures"], store))
        return _run(predictor, state, workers)


def label_again(
    predictor: Any,
    output: AnyPath,
    corrected: str | None = None,
    *,
    number: int | None = None,
    shots: int = 5,
    tune: bool = False,
    workers: Workers = ONE,
) -> LabelReport:
    """The next round of a folder: what was corrected since becomes references and stays as it was
    given, and the rest is labelled anew, into ``round-2``, ``round-3``, ….

    Args:
        predictor: of the same model; it is given the references, and what tuning found.
        corrected: a name such as "labelme:FOLDER" or "coco:FILE.json:IMAGES", or a file or folder
            in the format of the round before. Pictures are known by their file names. Of a part of
            the folder all is taken as it is; of all of it, what is not as it was written. None: a
            round that was begun goes on.
        number: of the round; None: the one that was begun, or the next.
        shots: corrected pictures of a class that become references, at most, beside the first ones.
        tune: tune the decoder on all corrected pictures, and keep the better one.

    Raises:
        ValueError: there is no finished round before it, nothing in ``corrected`` is of the round
            before; and as of ``label_folder``.
    """
    store = Store(_absolute(output))
    with _claimed(store):
        before, state = _next_round(store, number)
        name = _name_of(before, corrected)
        again = {"corrected": name, "shots": shots, "tune": tune}
        if state.begun:
            state.check(again if corrected else {}, None)
        elif name is None:
            raise ValueError(
                f"round {before.number} in {store.place} is finished; the next one needs what was "
                "corrected since"
            )
        else:
            given = {**before.given}
            given |= {r["file"]: r for r in corrected_records(before, name)}
            plan = _plan(before.asked["pictures"], store)
            _need_pictures(given, plan)
            forget_weights(state)
            use_weights(predictor, state)
            first = Round(store, 1).context().to(predictor.model.device)
            context = joined_context(predictor, first, list(given.values()), shots)
            asked = {k: v for k, v in before.asked.items() if k != "tuned"} | again
            if tune:
                asked["tuned"] = tune_on_records(predictor, state, list(given.values()))
            state.begin(asked, context, plan, [given[f] for f in plan if f in given])
        use_weights(predictor, state, own=True)
        return _run(predictor, state, workers)


def rounds(store: Store) -> list[int]:
    """The numbers of the rounds that were begun."""
    return [n for n in range(1, 1 + len(store.names(""))) if Round(store, n).begun]


def asked_before(output: AnyPath) -> dict[str, Any]:
    """What the first round of a folder was asked for. FileNotFoundError: there is none."""
    state = Round(Store(_absolute(output)), 1)
    if not state.begun:
        raise FileNotFoundError(f"no round of labelling in {os.fspath(output)}")
    return state.asked


def _next_round(store: Store, number: int | None) -> tuple[Round, Round]:
    """The last finished round and the one that is to be done."""
    begun = rounds(store)
    if not begun or not Round(store, 1).finished:
        raise ValueError(f"{store.place} has no finished first round")
    last = begun[-1]
    due = last + 1 if Round(store, last).finished else last
    if number is not None and number != due:
        raise ValueError(f"round {number}: the one that is due in {store.place} is {due}")
    return Round(store, due - 1), Round(store, due)


def _run(predictor: Any, state: Round, workers: Workers) -> LabelReport:
    """Label what is missing of a round, and write its files."""
    if state.finished:
        return report_of(state)
    asked = state.asked
    context: Context = state.context()  # the same numbers, whoever goes on
    context.check(predictor.model.fingerprint)
    predictor.context = context.to(predictor.model.device)
    predictor.batch_size = asked["batch"]
    if not state.store.exists(state.name("labels")):
        forget_changed(state)
    how = Recipe(asked["instances"], asked["min_score"], asked["never_empty"])
    work = missing_work(state)
    if workers.ray:
        done = by_ray(predictor, work, how, workers.processes)
    elif workers.processes > 1:
        done = several(predictor, work, how, workers.processes)
    else:
        done = alone(predictor, work, how)
    total = sum(len(state.files(chunk)) for chunk in state.missing())
    hidden = None if workers.progress else True  # None: on a terminal
    with tqdm(total=total, unit="picture", smoothing=0.05, disable=hidden) as bar:
        for chunk, records in done:
            state.add(chunk, records)
            bar.update(len(records))
    return finish(state)


def _plan(places: Sequence[str], store: Store) -> list[str]:
    """The pictures of places, each once, but for those in the store. ValueError: none."""
    plan: dict[str, None] = {}
    for place in places:
        if is_remote(place):
            own = {Path(file): file for file in files_below(place)}
            files = [own[path] for path in pictures_among(list(own))]
        else:
            leave_out = None if store.remote else store.place
            files = [os.fspath(f) for f in list_pictures([place], leave_out)]
        plan.update(dict.fromkeys(files))
    if not plan:
        raise ValueError(f"no pictures in {', '.join(places)}")
    return list(plan)


def _need_pictures(given: Mapping[str, Record], plan: Sequence[str]) -> None:
    """ValueError: a corrected picture is gone or has another size, so that its labels would go."""
    there = set(plan)
    for file, record in given.items():
        if file not in there:
            raise ValueError(f"{file} was corrected and is not there any more: put it back")
        if changed(record):
            height, width = record["size"]
            raise ValueError(f"{file} was corrected as {width}x{height} px and is another picture")


def _places(pictures: AnyPath | Sequence[AnyPath]) -> list[str]:
    if isinstance(pictures, str | os.PathLike):
        return [_absolute(pictures)]
    return [_absolute(place) for place in pictures]


def _absolute(place: AnyPath) -> str:
    return str(place) if "://" in str(place) else os.path.abspath(place)


def _name_of(before: Round, corrected: str | None) -> str | None:
    """The name of what was corrected, as ``read_annotations`` takes it."""
    kind = before.asked["format"]
    if corrected is None or format_of(corrected):
        return corrected
    path = os.path.abspath(corrected)
    if not os.path.exists(path):
        raise ValueError(f"no such file or folder on this machine: {corrected}")
    images = before.store.path(before.name("labels/images"))
    if kind == "masks":
        return f"folder:{path}"
    if kind == "coco" and os.path.isdir(path):
        return f"coco:{path}/annotations.json:{path}/images"
    if kind == "labelstudio" and os.path.isdir(path):
        return f"labelstudio:{path}/tasks.json"
    if os.path.isfile(path) and kind in ("coco", "labelstudio", "cvat"):
        if before.store.remote:
            raise ValueError(
                f"{corrected}: the pictures of the round are on another machine; name a folder of "
                f"them here: {kind}:{corrected}:IMAGES"
            )
        return f"{kind}:{path}:{images}"
    return f"{kind}:{path}"


@contextlib.contextmanager
def _claimed(store: Store) -> Iterator[None]:
    """The folder of a run for this process alone; on other machines nobody is kept out."""
    if store.remote:
        yield
        return
    try:
        claim = Claim(Path(store.place) / ".lock")
    except BlockingIOError as error:
        raise ValueError(
            f"{store.place}: another process labels there ({error.strerror}); wait until it ends, "
            "or give another --output"
        ) from None
    with claim:
        yield
