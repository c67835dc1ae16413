"""Random weights that depend on names alone, and miniatures: what the toys of the pins stand on.

A model's own random weights depend on the order in which its modules are built, which a refit may
change. So the toys' weights come from files: each tensor is drawn with the hash of its name.
"""

import contextlib
import hashlib
import importlib
import os
import runpy
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from . import layout

BACKBONE = "vit_tiny_patch16_224"
TEXT_DIM = 16
# root → its miniatures: modules of tests/miniatures that do not write the same files
ROOTS = {
    "labels": ("coco20i", "pascal5i", "fss1000", "a847", "pc459", "ade20k", "coco_semantic")
    + ("pascal_part", "spair71k"),
    "objects": ("coco_instances", "lvis_instances", "ade20k"),
    "lvis92i": ("lvis92i",),
    "paco": ("paco_part",),
    "cheap": ("coco_instances", "lvis_instances", "ade20k", "fss1000", "spair71k"),
}
PREPARED = {  # miniature → script of datasets/ and its arguments below the root
    "ade20k": ("prepare_ade20k.py", "ADEChallengeData2016"),
    "pascal_part": ("prepare_pascal_part.py", "VOCdevkit/VOC2010"),
    "coco_semantic": ("prepare_coco_semantic.py", "val"),
}


def make_root(name: str, root: Path) -> str:
    """Write and prepare the checkout's own miniatures; returns a hash of them.

    What imports segic_d2 comes last, as importing registers what is there.
    """
    for miniature in ROOTS[name]:
        importlib.import_module(f"tests.miniatures.{miniature}").make(root)
    for miniature in ROOTS[name]:
        if miniature in PREPARED:
            script, argument = PREPARED[miniature]
            argument = argument if argument == "val" else str(root / argument)
            run_script(Path("datasets") / script, argument)
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        if path.suffix != ".mat":  # which tells the time
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run_script(path: Path, *argv: str) -> None:
    """Run a script of the checkout here.

    Raises:
        RuntimeError: it ends with an error.
    """
    before = sys.argv, list(sys.path)
    sys.argv = [str(path), *argv]
    sys.path.insert(0, str(path.parent))  # where Python would look beside a script
    try:
        with contextlib.redirect_stdout(sys.stderr):
            runpy.run_path(str(path), run_name="__main__")
    except SystemExit as error:
        if error.code:
            raise RuntimeError(f"{path} ended with {error.code}") from error
    finally:
        sys.argv, sys.path[:] = before


def user_cache() -> Path:
    """Where the embedded weights lie, once they are prepared."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SEGIC_D2_CACHE") or Path(home) / "segic_d2")


def own_cache(folder: Path) -> Path:
    """A cache folder of this recording alone, but for the embedded weights, which are linked.

    Else what one checkout draws or learns of label maps would be read by the other.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in user_cache().glob("*.safetensors"):
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    return folder


def values(name: str, shape: tuple) -> torch.Tensor:
    """float32 values of a tensor: norms near 1, weights by their fan-in, the rest small."""
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    noise = torch.randn(shape, generator=g)
    if len(shape) > 1:
        return noise * (2 / max(noise[0].numel(), 1)) ** 0.5
    return noise * 0.1 + (1.0 if name.endswith("weight") else 0.0)


def backbone_file(folder: Path) -> str:
    """A timm state dict of BACKBONE, written once."""
    path = folder / f"{BACKBONE}.safetensors"
    if not path.is_file():
        import timm

        state = timm.create_model(BACKBONE).state_dict()
        save_file({k: values(k, tuple(v.shape)) for k, v in state.items()}, path)
    return str(path)


def head_file(cfg, path: Path) -> str:
    """A checkpoint of a config's trained tensors."""
    from detectron2.modeling import build_model

    state = build_model(cfg).state_dict()
    trained = {k: v for k, v in state.items() if layout.is_trained(k)}
    drawn = {
        k: values(layout.renamed(k, layout.TENSORS), tuple(v.shape)) if v.is_floating_point() else v
        for k, v in trained.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": drawn}, path)
    return str(path)


def text_file(folder: Path) -> str:
    """A table of text vectors (file format of the "table" encoder) for COCO, LVIS and ADE20K."""
    path = folder / "texts.safetensors"
    if path.is_file():
        return str(path)
    from detectron2.data import MetadataCatalog
    from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
    from detectron2.data.datasets.lvis_v1_categories import LVIS_CATEGORIES

    names = [c["name"] for c in COCO_CATEGORIES]
    names += [n for c in LVIS_CATEGORIES for n in c["synonyms"]]
    names += MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
    names += ["background", *(f"thing{i}" for i in range(40))]
    texts = ["", "please segment the instances", *(f"a photo of a {n}" for n in names)]
    texts = list(dict.fromkeys(texts))
    rows = [np.random.default_rng(zlib.crc32(t.encode())).normal(size=TEXT_DIM) for t in texts]
    vectors = torch.from_numpy(np.stack(rows)).float()
    save_file({"vectors": vectors}, path, {"texts": "\n".join(texts), "encoder": ""})
    return str(path)
