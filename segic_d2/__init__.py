"""In-context segmentation as a Detectron2 project; importing it registers all its parts."""

import importlib
import sys
import warnings
from sysconfig import get_path

try:
    with warnings.catch_warnings():  # torch's, of what Detectron2 and fvcore are made of
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", FutureWarning)
        import detectron2.engine  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ImportError(
        "segic_d2 needs detectron2, which no package index carries under its name. Without a "
        "compiler, as pure Python:\n    pip install --no-deps --only-binary=:all: --python-version "
        f"3.10 --implementation cp --abi none --platform any --target {get_path('purelib')}"
        f" sal-detectron2==0.7.2\n(in a checkout: make setup VENV={sys.prefix}), or with its "
        "compiled operators:\n    pip install --no-build-isolation --no-deps "
        "git+https://github.com/facebookresearch/detectron2.git@a59f0563",
        name="detectron2",
    ) from error

from .config import add_segic_config, get_config_file, load_config  # noqa: E402
from .data import build_train_loader, register_folder_dataset  # noqa: E402
from .modeling import Context, InContextMaskHead, SegIC  # noqa: E402
from .modeling.backbone import set_pixel_statistics  # noqa: E402
from .predictor import InContextPredictor, VideoPredictor  # noqa: E402

__all__ = ["Context", "InContextMaskHead", "InContextPredictor", "SegIC", "add_segic_config"]
__all__ += ["build_train_loader", "get_config_file", "load_config", "register_folder_dataset"]
__all__ += ["VideoPredictor", "set_pixel_statistics"]


def __getattr__(name: str) -> object:
    """``segic_d2.engine``, ``.evaluation`` and ``.lazy``, imported when they are asked for."""
    if name in ("engine", "evaluation", "lazy"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
