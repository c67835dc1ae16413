"""The texts that a training needs, and a table of their vectors in place of a text tower."""

from pathlib import Path

import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from segic_d2.data.datasets import register_by_name
from segic_d2.data.datasets.class_list import background_ids
from segic_d2.data.index import load_records
from segic_d2.modeling.text.encoder import read_text_table, save_text_table
from segic_d2.utils.files import whole_file

CLASS_KEYS = ("thing_classes", "stuff_classes")


def config_datasets(cfg):
    """The datasets that a config names in TRAIN, TEST and REFERENCE, each once."""
    parts = (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.DATASETS.REFERENCE)
    return list(dict.fromkeys(name for part in parts for name in part))


def registered_datasets():
    """The names in ``DatasetCatalog`` whose classes are known without their files, sorted."""
    return [
        name
        for name in sorted(DatasetCatalog.list())
        if any(MetadataCatalog.get(name).get(key) for key in CLASS_KEYS)
    ]


def dataset_classes(name):
    """Class names of a dataset without its background. Files are read only if they must be.

    Raises:
        ValueError: naming a dataset that is not registered, or has no class names.
    """
    register_by_name(name)
    if name not in DatasetCatalog:
        raise ValueError(f"{name!r} is no registered dataset")
    metadata = MetadataCatalog.get(name)
    if not any(metadata.get(key) for key in CLASS_KEYS):
        load_records(name)
    classes = [
        class_name
        for key in CLASS_KEYS
        for names in [metadata.get(key) or []]
        for i, class_name in enumerate(names)
        if i not in background_ids(name, names)
    ]
    if not classes:
        raise ValueError(f"dataset {name!r} has no class names")
    return classes


def texts_of(cfg, dataset_names, extra=()):
    """All texts that episodes of these datasets need, each once, in a fixed order.

    Args:
        cfg: config; ``MODEL.SEGIC.TEXT`` has the templates.
        dataset_names: registered names, ``folder:…`` or ``coco:…``.
        extra: further texts, as they are.

    Returns:
        list of str: the empty text, the sentence of instance episodes, the class names in their
        template, the extra ones.
    """
    text = cfg.MODEL.SEGIC.TEXT
    classes = (c for name in dataset_names for c in dataset_classes(name))
    named = (text.SEMANTIC_TEMPLATE.format(c) for c in classes)
    return list(dict.fromkeys(["", text.INSTANCE_TEXT, *named, *extra]))


def extend_table(path, texts, encoder, batch_size=256):
    """Add the texts that a table lacks; they are encoded and put behind the others.

    Args:
        path: .safetensors file, new or of the same encoder.
        texts: different strings.
        encoder: a text encoder. It encodes new texts only.
        batch_size: texts encoded at once.

    Returns:
        number of texts in the table, list of the new ones.

    Raises:
        ValueError: the table is of another encoder, or cannot be read.
    """
    path, old, rows = Path(path), [], []
    if path.is_file():
        try:
            old, vectors, made_by = read_text_table(path)
        except Exception as error:  # safetensors has its own kinds; no texts: KeyError, TypeError
            raise ValueError(f"{path} is no table of text vectors: {error}") from error
        if made_by != encoder.identity:
            raise ValueError(
                f"{path} holds vectors of {made_by or 'an unnamed encoder'}, not of "
                f"{encoder.identity}: choose another file"
            )
        rows.append(vectors)
    known = set(old)
    new = [text for text in texts if text not in known]
    if not new:
        return len(old), new
    starts = range(0, len(new), batch_size)
    rows += [encoder.encode(new[i : i + batch_size]).float().cpu() for i in starts]
    with whole_file(path) as part:  # a run that was ended leaves the old table as it was
        save_text_table(part, old + new, torch.cat(rows), encoder.identity)
    return len(old) + len(new), new
