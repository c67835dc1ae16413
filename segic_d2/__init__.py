"""In-context segmentation as a Detectron2 project; importing it registers all its parts."""

import sys

try:
    import detectron2  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ImportError(
        "segic_d2 needs detectron2, which no package index carries under its name. Either, in a "
        f"checkout of segic_d2 and without a compiler:\n    make setup VENV={sys.prefix}\n"
        "or, with its compiled operators (needs a C++ compiler):\n"
        "    pip install --no-build-isolation "
        "git+https://github.com/facebookresearch/detectron2.git@a59f0563",
        name="detectron2",
    ) from error
