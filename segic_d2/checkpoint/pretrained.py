"""Models by their names: trained decoders that ship with the package, in ``segic_d2/weights``, and
models of which others released the weights.

``segic://demo`` names "segic-demo" for whatever reads files through Detectron2's PathManager.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from detectron2.utils.file_io import PathHandler, PathManager
from safetensors.torch import load_file

from ..config.load import get_config_file
from ..utils.files import cache_folder
from .files import write_checkpoint

FOLDER = Path(__file__).resolve().parents[1] / "weights"
PREFIX = "segic://"


@dataclass(frozen=True)
class Pretrained:
    """A decoder: the config of the model that it ships with, and its file's SHA-256."""

    config: str
    sha256: str


PRETRAINED = {
    "segic-demo": Pretrained(
        "segic_demo.yaml", "187b26814391fd3f0fc110b5fe8ffd4df6ef0007f730ef81aa74dc32d38fd44c"
    )
}


@dataclass(frozen=True)
class Released:
    """A model whose weights do not ship: its config, and where they are."""

    config: str
    place: str


RELEASED = {
    "seggpt": Released(
        "seggpt/vit_large.yaml", "seggpt_vit_large.pth of https://huggingface.co/BAAI/SegGPT"
    ),
    "painter": Released(
        "seggpt/painter.yaml", "painter_vit_large.pth of https://huggingface.co/BAAI/Painter"
    ),
}


def find_model(
    name: str, weights: str | os.PathLike[str] | None = None
) -> tuple[str, str | os.PathLike[str] | None]:
    """Config and weights of a model's name: a key of ``PRETRAINED``, or of ``RELEASED``, or a
    config that ships, without its ending; ``weights`` win. ValueError: no such name, or weights
    that do not ship are not given. FileNotFoundError: a config of the tables is missing."""
    if name in PRETRAINED:
        return PRETRAINED[name].config, name if weights is None else weights
    if name in RELEASED:
        if weights is None:
            raise ValueError(
                f"the weights of {name!r} do not ship: give as weights a file, "
                f"{RELEASED[name].place}"
            )
        return get_config_file(RELEASED[name].config), weights
    try:
        return get_config_file(f"{name}.yaml"), weights
    except FileNotFoundError as error:
        known = ", ".join([*PRETRAINED, *RELEASED])
        raise ValueError(
            f"no pretrained decoder {name!r}; there are {known}, and the configs that ship"
        ) from error


def find_pretrained(name: str) -> Pretrained:
    """The decoder of a name; ValueError lists the names where none has it."""
    if name not in PRETRAINED:
        raise ValueError(f"no pretrained decoder {name!r}; there are {sorted(PRETRAINED)}")
    return PRETRAINED[name]


def weights_file(name: str) -> str:
    """Path of a decoder's .safetensors file; FileNotFoundError or ValueError where it is gone from
    the package or damaged, by its checksum."""
    expected, path = find_pretrained(name).sha256, FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"the weights {name!r} are missing from the package: {path}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(f"{path} is damaged: its SHA-256 is {found}, expected {expected}")
    return str(path)


def name_of(path: str) -> str:
    """The name of the decoder that a path means: "segic-demo" of "segic://demo"; else the path."""
    return f"segic-{path.removeprefix(PREFIX)}" if path.startswith(PREFIX) else path


class PretrainedHandler(PathHandler):
    """Resolves "segic://demo" to a .pth file in the cache folder (or a temporary one, where that
    cannot be written), as Detectron2's own checkpointer reads no .safetensors. It is written anew
    each time, for nobody knows what became of it. ValueError: there is no such decoder."""

    temporary: tempfile.TemporaryDirectory[str] | None = None  # removed at the end of the process

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        name = name_of(path)
        data, file = {"model": load_file(weights_file(name))}, f"{name}.pth"
        try:
            return self._written(data, cache_folder() / file)
        except OSError:
            self.temporary = self.temporary or tempfile.TemporaryDirectory(prefix="segic_d2-")
            return self._written(data, Path(self.temporary.name) / file)

    def _written(self, data: dict[str, Any], file: Path) -> str:
        write_checkpoint(data, file, shared=True)
        return str(file)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if not set(mode) <= set("rbt"):
            raise ValueError(f"{path} ships with the package and cannot be written")
        return open(self._get_local_path(path), mode, buffering)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        return name_of(path) in PRETRAINED

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        return self._exists(path)


PathManager.register_handler(PretrainedHandler(), allow_override=True)
