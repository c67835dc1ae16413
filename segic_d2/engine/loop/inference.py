"""Runs a model over a test loader. An interrupted run goes on where it was saved last."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from detectron2 import evaluation
from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator, DatasetEvaluator, DatasetEvaluators
from detectron2.utils import comm
from torch.utils.data import DataLoader

from ...compat import end_workers, image_ids
from ...config.keys import check_config
from ...data.health.damaged import Damaged, field, note
from ...data.health.verify import verify_loader
from ...structures.segmentation import require_finite
from ...utils.remote import first_line
from . import progress
from .evaluator_state import has_state, restore, state_of

logger = logging.getLogger(__name__)
SHARE = 20  # the next save waits at least so many times as long as the last one took


def run_inference(
    cfg: CfgNode,
    model: Callable[[list[Any]], Any],
    loader: DataLoader[Any],
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    output_dir: str | None,
) -> dict[str, Any]:
    """Run Detectron2's evaluation loop, so that it can go on after an interruption; returns the
    evaluator's results, an empty dict on all but the main process. The model's mode is restored.

    Every ``TEST.SAVE_PERIOD`` seconds, and when an exception ends the run, this process writes the
    evaluator's counts to a file in ``output_dir``, if there is one. The same call then continues
    exactly there. A file of another config, weights, dataset or number of processes is not used,
    and the log says so; nor is one that another process works with. After a finished run the files
    are removed. Damaged items are left out of
    their batches. DamagedDataError: with ``TEST.DAMAGED`` "error", what ``TEST.VERIFY`` found.
    ValueError: a score that is NaN or infinite.
    """
    check_config(cfg, "TEST")
    if evaluator is None or isinstance(evaluator, list):
        evaluator = DatasetEvaluators(evaluator or [])
    if cfg.TEST.DAMAGED == "error":
        verify_loader(cfg, loader)
    run = _Run(model, evaluator, loader, cfg.TEST.SAVE_PERIOD)
    claim: AbstractContextManager[Any] = nullcontext()
    wanted = output_dir and cfg.TEST.SAVE_PERIOD > 0 and hasattr(loader, "items")
    if wanted and not has_state(evaluator):
        logger.warning(
            "%s has no state_dict and load_state_dict: this evaluation cannot be continued after "
            "an interruption",
            type(evaluator).__name__,
        )
    elif output_dir and wanted:
        run.path, claim = progress.claim_file(output_dir)
    with claim:
        if run.path:
            run.fingerprint = progress.fingerprint(cfg, model, getattr(loader, "items", ()))
        with run:
            run.resume()
            results = evaluation.inference_on_dataset(model, run.batches, run)
        if output_dir and wanted:
            # the others' files are needed until the main process has its results
            comm.synchronize()
        if run.path:
            progress.remove_own(run.path)
            if comm.is_main_process():  # and those of an earlier run with more processes
                progress.remove_others(run.path)
    return results


class _Batches:
    """Yields a loader's batches without their damaged items, and no empty batch."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader, self.position = loader, 0
        self.damaged: list[Damaged] = []
        self._running: Iterator[Any] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[Any]]:
        self._running = iter(self.loader)
        for batch in self._running:
            self.position += len(batch)
            self.damaged += [x for x in batch if isinstance(x, Damaged)]
            if whole := [x for x in batch if not isinstance(x, Damaged)]:
                yield whole
        self.close()

    def close(self) -> None:
        """End the worker processes."""
        running, self._running = self._running, None
        end_workers(running)


class _Run(DatasetEvaluator, AbstractContextManager[Any]):
    """The evaluator in Detectron2's loop; it saves, and counts in ``done`` (None: amid a batch)."""

    def __init__(
        self, model: Any, evaluator: DatasetEvaluator, loader: DataLoader[Any], period: float
    ) -> None:
        self.model, self.mode = model, getattr(model, "training", None)
        self.evaluator, self.batches = evaluator, _Batches(loader)
        self.sampler: Any = getattr(loader, "sampler", None)  # ``start`` may be set
        self.period, self.wait, self.last = period, period, time.monotonic()
        self.path: Path | None = None
        self.fingerprint: dict[str, Any] = {}
        self.done: int | None = 0
        self.saved: int | None = 0

    def __exit__(self, kind: object, *_: object) -> None:
        if self.mode is not None:  # Detectron2 restores it only after a run without errors
            self.model.train(self.mode)
        self.batches.close()
        if self.path:
            self.sampler.start = 0
        if kind is not None and self.path and self.done:
            self._save()
            logger.info("interrupted after %d items, which %s holds", self.done, self.path)

    def resume(self) -> None:
        """Reset the evaluator; if a file is there, set evaluator and loader to what it says."""
        self.evaluator.reset()
        if not self.path or not self.path.exists():
            return
        try:
            saved = progress.read(self.path)
            about = saved.pop("about")
            other = [k for k, v in self.fingerprint.items() if about["fingerprint"].get(k) != v]
            if other:
                raise ValueError(f"it is of another evaluation ({', '.join(other)})")
            done, damaged = about["done"], [Damaged(**d) for d in about["damaged"]]
            if type(done) is not int or not 0 < done <= len(self.sampler):
                raise ValueError(f"{done!r} of {len(self.sampler)} items are done")
            restore(self.evaluator, {k.removeprefix("state/"): v for k, v in saved.items()})
        except Exception as error:  # noqa: BLE001  whatever the file holds
            self.evaluator.reset()
            reason = f"{type(error).__name__}: {first_line(error)}"
            logger.warning("not continuing from %s: %s; starting anew", self.path, reason)
            return
        self.done = self.saved = self.batches.position = self.sampler.start = done
        self.batches.damaged = damaged
        logger.info("continuing from %s: %d items are done", self.path, self.done)

    def reset(self) -> None:
        """Detectron2's loop calls this at its start. Nothing is left to do after ``resume``."""

    def process(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        for x, found in zip(inputs, outputs, strict=False):
            if isinstance(found, dict):
                name = str(field(x, "file_name") or "")
                require_finite(found.get("scores"), name)
                require_finite(getattr(found.get("instances"), "scores", None), name)
        self.done = None
        self.evaluator.process(inputs, outputs)
        self.done = self.batches.position
        if self.path and time.monotonic() - self.last >= self.wait:
            self._save()

    def evaluate(self) -> dict[str, Any] | None:
        self.done = self.batches.position
        if self.path and self.done != self.saved:
            self._save()
        self.done = None  # evaluators change their counts when they gather those of all processes
        damaged = [d for part in comm.all_gather(self.batches.damaged) for d in part]
        if damaged:
            note(damaged)
        if not (damaged and isinstance(self.evaluator, COCOEvaluator)):
            return self.evaluator.evaluate()
        gone = {d.image_id for d in damaged}  # COCO's evaluator would take them for missed ones
        kept = [i for i in image_ids(self.evaluator) if i not in gone]
        return self.evaluator.evaluate(img_ids=kept)

    def _save(self) -> None:
        assert self.path is not None
        start = time.monotonic()
        damaged = [vars(d) for d in self.batches.damaged]
        about = {"fingerprint": self.fingerprint, "done": self.done, "damaged": damaged}
        state = {f"state/{k}": v for k, v in state_of(self.evaluator).items()}
        progress.write(self.path, {"about": about, **state})
        self.last, self.saved = time.monotonic(), self.done
        self.wait = max(self.period, SHARE * (self.last - start))
