"""In-context segmentation as a Detectron2 project; importing it registers all its parts."""

import importlib
import warnings

from .utils.texts import without_detectron2

try:
    with warnings.catch_warnings():  # torch's, of what Detectron2 and fvcore are made of
        warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", FutureWarning)
        import detectron2.engine  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "detectron2":
        raise
    raise ImportError(without_detectron2(), name="detectron2") from error

from .config import add_segic_config, get_config_file, load_config  # noqa: E402
from .data import build_train_loader, register_folder_dataset  # noqa: E402
from .modeling import Context, InContextMaskHead, SegIC  # noqa: E402
from .modeling.backbone import set_pixel_statistics  # noqa: E402
from .predictor import InContextPredictor, VideoPredictor  # noqa: E402

__all__ = ["Context", "InContextMaskHead", "InContextPredictor", "SegIC", "add_segic_config"]
__all__ += ["build_train_loader", "get_config_file", "load_config", "register_folder_dataset"]
__all__ += ["VideoPredictor", "set_pixel_statistics"]


def __getattr__(name: str) -> object:
    """What is imported when it is asked for: rooms, ``label_folder`` and ``label_again``."""
    if name in ("engine", "evaluation", "lazy"):
        return importlib.import_module(f".{name}", __name__)
    if name in ("label_folder", "label_again"):
        return getattr(importlib.import_module(".engine.label", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
