"""Decoders that a round tuned on what was corrected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...checkpoint import SegICCheckpointer
from .corrections import as_references
from .state import Record, Round

WEIGHTS = "weights.safetensors"


def tune_on_records(predictor: Any, state: Round, records: Sequence[Record]) -> dict[str, Any]:
    """Tune a predictor's decoder on corrected pictures; the better one is kept, and written where
    it is the tuned one. Returns what is to be remembered of it: "text", and "share" of the decoder,
    see ``TuneReport``. Too few pictures are told by the text."""
    try:
        with as_references(records) as given:
            report = predictor.fine_tune(given)
    except ValueError as error:
        return {"text": f"not tuned: {error}", "share": None}
    if report.kept == "after":
        with TemporaryDirectory() as folder:
            file = Path(folder) / WEIGHTS
            predictor.save_weights(file)
            state.store.write(state.name(WEIGHTS), file.read_bytes())
    return {"text": repr(report), "share": report.share}


def forget_weights(state: Round) -> None:
    """Remove what a round tuned that was not begun then: its process ended in between."""
    if state.store.exists(state.name(WEIGHTS)):
        state.store.remove(state.name(WEIGHTS))


def use_weights(predictor: Any, state: Round, own: bool = False) -> None:
    """Give a predictor the weights of the last round before ``state`` that tuned them, or, with
    ``own``, its own ones; there may be none."""
    for number in range(state.number - (not own), 0, -1):
        before = Round(state.store, number)
        if not state.store.exists(before.name(WEIGHTS)):
            continue
        with TemporaryDirectory() as folder:
            file = Path(folder) / WEIGHTS
            file.write_bytes(state.store.read(before.name(WEIGHTS)))
            SegICCheckpointer(predictor.model, complete=True).load(str(file))
        share = before.asked["tuned"]["share"] if before.begun else None
        if share is not None:
            predictor.model.sem_seg_head.set_share(share)
        return
