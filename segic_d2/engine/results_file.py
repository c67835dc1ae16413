"""``results.json``: what an evaluation found and under which conditions, for tables."""

import json
import os

from detectron2.utils import comm
from detectron2.utils.file_io import PathManager


def write_results(output_dir, **fields):
    """Write ``<output_dir>/results.json`` on the main process; nowhere without a folder.

    Args:
        fields: ``benchmark`` (text), ``shots``, ``seen``, ``text``, ``standard`` (bool),
            ``metrics`` (dict), ``skipped`` (list), and "episodes", "images" or "pairs" (int).
    """
    if not output_dir or not comm.is_main_process():
        return
    PathManager.mkdirs(output_dir)
    with PathManager.open(os.path.join(output_dir, "results.json"), "w") as file:
        json.dump(fields, file, indent=1)
