"""Trained decoders that ship with the package, in ``segic_d2/weights``, by their names."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "weights"


@dataclass(frozen=True)
class Pretrained:
    """A decoder: its config, and its file's SHA-256."""

    config: str
    sha256: str


PRETRAINED = {
    "segic-demo": Pretrained(
        "segic_demo.yaml", "187b26814391fd3f0fc110b5fe8ffd4df6ef0007f730ef81aa74dc32d38fd44c"
    )
}


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
