"""Names what ``TEST.DAMAGED`` left out, in the log, the table and ``results.json``."""

import json
import logging
import os

from detectron2.utils import comm

from ...data.health.damaged import NAMED, DamagedDataError, leaving_out, message

logger = logging.getLogger(__name__)


def evaluate_without_damaged(cfg, dataset_name, folder, evaluation):
    """Run an evaluation under the policy of ``TEST.DAMAGED``.

    With "skip" the items that were left out are counted as the metric ``skipped`` of each task.
    ``<folder>/results.json`` lists them under "skipped", one text per item; an evaluation that
    writes no such file gets one.

    Args:
        cfg: config.
        dataset_name: its name, for ``results.json``.
        folder: of this evaluation. An earlier ``results.json`` in it is removed.
        evaluation: function that returns {task: {metric: value}}.

    Returns:
        the evaluation's results.

    Raises:
        DamagedDataError: ``TEST.DAMAGED`` is "error" and something that was read is damaged. See
            ``run_inference`` for what is found before the model runs.
    """
    path = os.path.join(folder, "results.json")
    if comm.is_main_process() and os.path.exists(path):
        os.remove(path)
    with leaving_out() as found:  # with "error" too, to name all of it at once
        try:
            results = evaluation()
        except DamagedDataError:
            raise
        except Exception as error:
            if found and cfg.TEST.DAMAGED == "error":
                raise DamagedDataError(message(list(found.values()))) from error
            raise
    skipped = [f"{damage.item}: {damage.reason}" for damage in found.values()]
    if skipped and cfg.TEST.DAMAGED == "error":
        raise DamagedDataError(message(list(found.values())))
    if not comm.is_main_process():
        return results
    if skipped:
        named = "; ".join(skipped[:NAMED])
        more = f"; and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        logger.warning("left out %d damaged items: %s%s", len(skipped), named, more)
        for metrics in results.values():
            metrics["skipped"] = len(skipped)
    _write(cfg, dataset_name, path, results, skipped)
    return results


def _write(cfg, dataset_name, path, results, skipped):
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        content = {"benchmark": dataset_name, "shots": cfg.TEST.SHOTS, "metrics": results}
    content["skipped"] = [*content.get("skipped", ()), *skipped]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, default=float)
    os.replace(path + ".part", path)
