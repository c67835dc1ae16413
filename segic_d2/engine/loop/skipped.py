"""Names what ``TEST.DAMAGED`` left out, in the log and the table."""

import logging
from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm

from ...data.health.damaged import NAMED, DamagedDataError, leaving_out, message

logger = logging.getLogger(__name__)


def without_damaged(
    cfg: CfgNode, evaluation: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], list[str]]:
    """Run an evaluation, which returns {task: {metric: value}}, under the policy of
    ``TEST.DAMAGED``; returns its results and texts on what "skip" left out, counted as ``skipped``
    of each task. DamagedDataError: the policy is "error" and something that was read is damaged."""
    with leaving_out() as found:  # with "error" too, to name all of it at once
        try:
            results = evaluation()
        except Exception as error:
            if found and cfg.TEST.DAMAGED == "error" and not isinstance(error, DamagedDataError):
                raise DamagedDataError(message(list(found.values()))) from error
            raise
    skipped = [f"{damage.item}: {damage.reason}" for damage in found.values()]
    if skipped and cfg.TEST.DAMAGED == "error":
        raise DamagedDataError(message(list(found.values())))
    if skipped and comm.is_main_process():
        named = "; ".join(skipped[:NAMED])
        more = f"; and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        logger.warning("left out %d damaged items: %s%s", len(skipped), named, more)
        for metrics in results.values():
            metrics["skipped"] = len(skipped)
    return results, skipped
