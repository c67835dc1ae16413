"""Puts the speed of a run, and its waiting for data, into Detectron2's storage."""

from detectron2.engine import HookBase

from ...utils.devices import best_device, peak_memory


class Throughput(HookBase):
    """Puts ``samples_per_second``, of ``batch`` samples, ``data_share`` and ``gpu_memory_mb``
    beside Detectron2's times. ``data_share`` is the share of a step, 0 … 1, that the slowest
    process waits for data. Memory is the most that torch had allocated, in MiB. The hook stands
    after IterationTimer, whose first steps do not count."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def after_step(self) -> None:
        storage = self.trainer.storage
        seconds, when = storage.latest().get("time", (0, -1))
        if when != self.trainer.iter or seconds <= 0:
            return
        storage.put_scalar("samples_per_second", self.batch / seconds)
        if "data_time" in storage.latest():  # of the main process
            waited = storage.latest()["data_time"][0]
            storage.put_scalar("data_share", min(1.0, waited / seconds))
        if (most := peak_memory(best_device())) is not None:
            storage.put_scalar("gpu_memory_mb", most / 2**20)
