"""Which ids of a dataset stand for no entity."""

from detectron2.data import MetadataCatalog


def background_ids(name, names):
    """Ids that are never an entity: classes called "background", and ``background_label``."""
    ids = {i for i, n in enumerate(names) if str(n).lower() == "background"}
    return ids | {MetadataCatalog.get(name).get("background_label", None)} - {None}
