"""Text vectors of class names and task sentences (meta instruction, paper Sec. 3.3).

A text encoder is frozen, holds no parameters of the model and remembers what it has encoded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from detectron2.config import CfgNode
from detectron2.utils.registry import Registry
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ...utils.files import write_whole
from ...utils.registries import find_registered
from ...utils.remote import cached_from_hub, first_line, missing_on_hub, unreachable
from ..layers.precision import without_autocast


class TextEncoder(Protocol):
    """What a text encoder offers."""

    dim: int  # D, length of a vector
    identity: str  # for fingerprints

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (len(texts), D) on the CPU."""


TABLE = "MODEL.SEGIC.TEXT.NAME table, which tools/precompute_text.py makes elsewhere"
_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # where none is named
TEXT_ENCODER_REGISTRY = Registry("TEXT_ENCODER")
TEXT_ENCODER_REGISTRY.__doc__ = """
Text encoders by name (``MODEL.SEGIC.TEXT.NAME``): callables that take the config and return a
``TextEncoder``, or None.
"""


def build_text_encoder(cfg: CfgNode) -> TextEncoder | None:
    """The text encoder of ``MODEL.SEGIC.TEXT.NAME``, or None where ``MODEL.SEGIC.META`` is off;
    ValueError where that is on and the encoder "none" or not registered."""
    if not cfg.MODEL.SEGIC.META:
        return None
    name = cfg.MODEL.SEGIC.TEXT.NAME
    encoder = find_registered(TEXT_ENCODER_REGISTRY, name, "MODEL.SEGIC.TEXT.NAME")(cfg)
    if encoder is None:
        raise ValueError("MODEL.SEGIC.META is on but MODEL.SEGIC.TEXT.NAME is 'none'")
    return encoder


def check_texts(cfg: CfgNode) -> None:
    """Make sure that the text encoder of a config can be had, without loading a tower: an encoder
    may have a method ``check()`` for it. It ends within seconds where there is no network.

    Raises:
        FileNotFoundError: a file is missing or cannot be fetched; says the keys to set.
        ImportError: a package is missing.
        ValueError: no such encoder, model or vectors.
    """
    check = getattr(build_text_encoder(cfg), "check", None)
    if check is not None:
        check()


def save_text_table(
    path: str | Path, texts: Sequence[str], vectors: Tensor, encoder: str = ""
) -> None:
    """Write float vectors (len(texts), D) as a .safetensors file for the "table" text encoder.

    ``encoder`` is the ``identity`` of the encoder that made them, so that it can be extended.
    ValueError for repeated texts, another number of vectors, or a text with a line break.
    """
    if len(texts) != len(vectors) or len(set(texts)) != len(texts):
        raise ValueError(f"{len(vectors)} vectors for {len(set(texts))} different texts")
    broken = [text for text in texts if "\n" in text]  # the file keeps one text per line
    if broken:
        raise ValueError(f"text {broken[0]!r} has a line break, which a table cannot hold")
    metadata = {"texts": "\n".join(texts), "encoder": encoder}
    write_whole(path, save({"vectors": vectors.float().contiguous()}, metadata))


def read_text_table(path: str | Path) -> tuple[list[str], Tensor, str]:
    """What ``save_text_table`` wrote: texts, vectors (len(texts), D), encoder."""
    with safe_open(str(path), "pt") as f:
        metadata = f.metadata()
        return metadata["texts"].split("\n"), f.get_tensor("vectors"), metadata.get("encoder", "")


class TableTextEncoder:
    """Vectors of length ``dim`` from a file of ``save_text_table``; no text tower is needed."""

    def __init__(self, path: str, dim: int) -> None:
        if not path or not Path(path).is_file():
            raise FileNotFoundError(f"text table not found: MODEL.SEGIC.TEXT.TABLE is {path!r}")
        texts, vectors, _ = read_text_table(path)
        if vectors.shape[1] != dim:
            raise ValueError(
                f"{path} holds vectors of length {vectors.shape[1]}, MODEL.SEGIC.TEXT.DIM is {dim}"
            )
        self.dim, self.path = dim, str(path)
        digest = hashlib.sha256("\n".join(texts).encode() + vectors.numpy().tobytes())
        self.identity = f"table:{digest.hexdigest()[:16]}"
        self._vectors = dict(zip(texts, vectors, strict=True))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (len(texts), D) on the CPU; KeyError names a text that the table lacks."""
        for text in texts:
            if text not in self._vectors:
                raise KeyError(
                    f"text {text!r} is not in the table {self.path}; tools/precompute_text.py adds "
                    "what is missing"
                )
        return torch.stack([self._vectors[t] for t in texts])


class OpenClipTextEncoder:
    """The text tower of an open_clip model, loaded when the first text is encoded.

    A vector is the end-of-text token after the final norm and before CLIP's projection. The weights
    are a pretrained tag or a local file; "" leaves the tower random (tests only). Encoding raises
    ImportError without open_clip, ValueError for a model that is none or has another ``dim``, and
    FileNotFoundError, naming the key, where its weights cannot be had.
    """

    def __init__(self, model: str, weights: str, dim: int) -> None:
        self.model_name, self.weights, self.dim = model, weights, dim
        self.identity = f"open_clip:{model}:{Path(weights).name}"
        self._tower: nn.Module | None = None
        self._vectors: dict[str, Tensor] = {}

    def check(self) -> None:
        """Make sure that the tower can be had, see ``check_texts``; nothing is downloaded."""
        self._source()

    def _source(self) -> str:
        """What open_clip is to load: a file that is here, which its own loader would ask the hub
        about again and again for minutes, or a tag that it can fetch."""
        try:
            import open_clip
        except ImportError as e:
            raise ImportError(
                "MODEL.SEGIC.TEXT.NAME 'open_clip' needs the package open_clip_torch: "
                f"pip install 'segic_d2[text]'; or set MODEL.SEGIC.META False, or {TABLE}"
            ) from e
        if self.model_name not in open_clip.list_models():
            raise ValueError(f"MODEL.SEGIC.TEXT.MODEL {self.model_name!r} is no open_clip model")
        found, source, reason = open_clip.get_pretrained_cfg(self.model_name, self.weights), "", ""
        if found.get("hf_hub"):
            repository, file = os.path.split(found["hf_hub"])
            files = [str(Path(file).with_suffix(".safetensors")), file] if file else _HUB_FILES
            source = cached_from_hub(repository, files)
            reason = "" if source else missing_on_hub(repository, files)
        elif found.get("url"):
            kept = Path("~/.cache/clip").expanduser() / os.path.basename(found["url"])
            reason = "" if kept.is_file() else unreachable(found["url"])
        elif self.weights and not Path(self.weights).is_file():
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(self.model_name)) or "none"
            reason = f"no file, and none of its pretrained tags: {tags}"
        if reason:
            raise self._not_loaded(reason)
        return source or self.weights

    def _not_loaded(self, reason: str) -> FileNotFoundError:
        return FileNotFoundError(
            f"MODEL.SEGIC.TEXT.WEIGHTS {self.weights!r}: could not load {self.model_name} "
            f"({reason}); set MODEL.SEGIC.META False to do without text, or the key to a file on "
            f"this machine, or {TABLE}"
        )

    def _load(self) -> None:
        source = self._source()
        import open_clip

        try:
            model = open_clip.create_model(self.model_name, pretrained=source or None)
        except Exception as error:  # no access, cut off, a file that is none
            raise self._not_loaded(f"{type(error).__name__}: {first_line(error)}") from error
        if not hasattr(model, "ln_final"):
            raise ValueError(f"MODEL.SEGIC.TEXT.MODEL {self.model_name!r} has no CLIP text tower")
        width = model.ln_final.normalized_shape[0]
        if width != self.dim:
            raise ValueError(
                f"{self.model_name} has text vectors of length {width}, "
                f"MODEL.SEGIC.TEXT.DIM is {self.dim}"
            )
        model.visual = model.text_projection = None  # only the text tower is used
        self._tower = model.eval().requires_grad_(False)
        self._tokenizer = open_clip.get_tokenizer(self.model_name)

    @torch.no_grad()
    @without_autocast  # the vectors are kept, for evaluation in full precision too
    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors (len(texts), D) on the CPU."""
        new = [t for t in dict.fromkeys(texts) if t not in self._vectors]
        if new:
            if self._tower is None:
                self._load()
            vectors = self._tower.encode_text(self._tokenizer(new)).float()
            self._vectors.update(zip(new, vectors, strict=True))
        return torch.stack([self._vectors[t] for t in texts])


@TEXT_ENCODER_REGISTRY.register()
def open_clip(cfg: CfgNode) -> OpenClipTextEncoder:
    text = cfg.MODEL.SEGIC.TEXT
    return OpenClipTextEncoder(text.MODEL, text.WEIGHTS, text.DIM)


@TEXT_ENCODER_REGISTRY.register()
def table(cfg: CfgNode) -> TableTextEncoder:
    return TableTextEncoder(cfg.MODEL.SEGIC.TEXT.TABLE, cfg.MODEL.SEGIC.TEXT.DIM)


@TEXT_ENCODER_REGISTRY.register()
def none(cfg: CfgNode) -> None:
    return None
