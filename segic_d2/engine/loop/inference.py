"""Runs a model over a test loader. An interrupted run goes on where it was saved last."""

import logging
import time
import zipfile
from contextlib import contextmanager

from detectron2.evaluation import (
    COCOEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
)
from detectron2.utils import comm

from ...data.health.damaged import Damaged, check_policy, note
from ...data.health.verify import verify_loader
from . import progress
from .evaluator_state import has_state, restore, state_of

logger = logging.getLogger(__name__)
SHARE = 20  # the next save waits at least so many times as long as the last one took


def run_inference(cfg, model, loader, evaluator, output_dir):
    """Run Detectron2's evaluation loop, so that it can go on after an interruption.

    Every ``TEST.SAVE_PERIOD`` seconds, and when an exception ends the run, this process writes the
    evaluator's counts to a file in ``output_dir``. The same call then continues exactly there. A
    file of another config, weights, dataset or number of processes is not used, and the log says
    so. After a finished run the files are removed.

    Damaged items (``TEST.DAMAGED``) are named before the run, or left out of their batches.

    Args:
        cfg: config.
        model: in any mode, which is restored afterwards.
        loader: a test loader of ``data.build``.
        evaluator: a ``DatasetEvaluator``, or a list of them.
        output_dir: folder of this evaluation.

    Returns:
        the evaluator's results; an empty dict on all but the main process.

    Raises:
        DamagedDataError: ``TEST.DAMAGED`` is "error" and ``TEST.VERIFY`` found damage; it is named.
    """
    check_policy(cfg)
    if evaluator is None or isinstance(evaluator, list):
        evaluator = DatasetEvaluators(evaluator or [])
    if cfg.TEST.DAMAGED == "error":
        verify_loader(cfg, loader)
    run = _Run(evaluator, loader, cfg.TEST.SAVE_PERIOD)
    if _can_be_saved(cfg, loader, evaluator, output_dir):
        run.path = progress.progress_file(output_dir)
        run.fingerprint = progress.fingerprint(cfg, model, loader.items)
    with _as_before(model), run:
        run.resume()
        results = inference_on_dataset(model, run.batches, run)
    if run.path:
        comm.synchronize()  # the others' files are needed until the main process has its results
        run.path.unlink(missing_ok=True)
        if comm.is_main_process():  # and those of an earlier run with more processes
            progress.remove_others(run.path)
    return results


def _can_be_saved(cfg, loader, evaluator, output_dir):
    if cfg.TEST.SAVE_PERIOD <= 0 or not output_dir or not hasattr(loader, "items"):
        return False
    if not has_state(evaluator):
        logger.warning(
            "%s has no state_dict and load_state_dict: this evaluation cannot be continued after "
            "an interruption",
            type(evaluator).__name__,
        )
    return has_state(evaluator)


@contextmanager
def _as_before(model):
    mode = getattr(model, "training", None)
    try:
        yield
    finally:  # Detectron2 restores it only after a run without errors
        if mode is not None:
            model.train(mode)


class _Batches:
    """Yields a loader's batches without their damaged items, and no empty batch."""

    def __init__(self, loader):
        self.loader, self.position, self.damaged, self._running = loader, 0, [], None

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        self._running = iter(self.loader)
        for batch in self._running:
            self.position += len(batch)
            damaged = [x for x in batch if isinstance(x, Damaged)]
            self.damaged += damaged
            batch = [x for x in batch if not isinstance(x, Damaged)] if damaged else batch
            if batch:
                yield batch
        self.close()

    def close(self):
        """End the worker processes, which a kept traceback would hold otherwise."""
        stop = getattr(self._running, "_shutdown_workers", None)
        self._running = None
        if stop:
            stop()


class _Run(DatasetEvaluator):
    """Stands for the evaluator in Detectron2's loop; it counts items and saves now and then.

    ``done`` is the number of this process's items that the evaluator has counted. In the middle of
    a batch it is None, and nothing is saved then.
    """

    def __init__(self, evaluator, loader, period):
        self.evaluator, self.batches = evaluator, _Batches(loader)
        self.sampler = getattr(loader, "sampler", None)  # ``start`` may be set
        self.period, self.wait, self.last = period, period, time.monotonic()
        self.path, self.fingerprint, self.done, self.saved = None, None, 0, 0

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.batches.close()
        if self.path:
            self.sampler.start = 0
        if kind is not None and self.path and self.done:
            self._save()
            logger.info("interrupted after %d items, which %s holds", self.done, self.path)

    def resume(self):
        """Reset the evaluator; if a file is there, set evaluator and loader to what it says."""
        self.evaluator.reset()
        if not self.path or not self.path.exists():
            return
        try:
            saved = progress.read(self.path)
            about = saved.pop("about")
            restore_from = {k.removeprefix("state/"): v for k, v in saved.items()}
            other = [k for k, v in self.fingerprint.items() if about["fingerprint"].get(k) != v]
            if other:
                raise ValueError(f"it is of another evaluation ({', '.join(other)})")
            restore(self.evaluator, restore_from)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            self.evaluator.reset()
            logger.warning("not continuing from %s: %s; starting anew", self.path, error)
            return
        self.done = self.saved = self.batches.position = self.sampler.start = about["done"]
        self.batches.damaged = [Damaged(**d) for d in about["damaged"]]
        logger.info("continuing from %s: %d items are done", self.path, self.done)

    def reset(self):
        """Detectron2's loop calls this at its start. Nothing is left to do after ``resume``."""

    def process(self, inputs, outputs):
        self.done = None
        self.evaluator.process(inputs, outputs)
        self.done = self.batches.position
        if self.path and time.monotonic() - self.last >= self.wait:
            self._save()

    def evaluate(self):
        self.done = self.batches.position
        if self.path and self.done != self.saved:
            self._save()
        self.done = None  # evaluators change their counts when they gather those of all processes
        damaged = [d for part in comm.all_gather(self.batches.damaged) for d in part]
        if not damaged:
            return self.evaluator.evaluate()
        note(damaged)
        return self._evaluate_without(damaged)

    def _evaluate_without(self, damaged):
        """Evaluate. COCO's evaluator would take the images that are left out for missed ones."""
        if not isinstance(self.evaluator, COCOEvaluator):
            return self.evaluator.evaluate()
        gone = {d.image_id for d in damaged}
        kept = [i for i in self.evaluator._coco_api.getImgIds() if i not in gone]
        return self.evaluator.evaluate(img_ids=kept)

    def _save(self):
        start = time.monotonic()
        about = {"fingerprint": self.fingerprint, "done": self.done}
        about["damaged"] = [vars(d) for d in self.batches.damaged]
        state = {f"state/{k}": v for k, v in state_of(self.evaluator).items()}
        progress.write(self.path, {"about": about, **state})
        self.last, self.saved = time.monotonic(), self.done
        self.wait = max(self.period, SHARE * (self.last - start))
