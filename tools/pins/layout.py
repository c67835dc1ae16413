"""What moved, went or was renamed between commits: the only tables that a refit has to touch.

Checkouts are driven through what stays: ``train_net.main``, ``tools/evaluate_pairs.py``,
``tools/list_episodes.py``, ``datasets/prepare_*.py``, ``tests/miniatures``, the public names of
``segic_d2``, Detectron2's ``build_model`` and ``EventStorage``, and names of tensors.
"""

# part → the part that took its place; where it is missing it is reported, not counted
SUCCESSORS = {
    "evaluations/sem_seg_ade20k": "evaluations/ade20k150",
    "evaluations/sem_seg_shapes": "evaluations/semantic_shapes",
    "evaluations/coco": "evaluations/coco_instances",
    "evaluations/coco_shapes": "evaluations/instances_shapes",
}

# keys of the toys that a checkout may lack: renamed, or None for one whose default serves
KEYS: dict[str, str | None] = {
    "TEST.VERIFY": None,
}

# pieces of a metric's name, old → new: both are read as the new one
METRICS: dict[str, str] = {}

# names of tensors, old → new, that a checkpoint renames as it is loaded
TENSORS: dict[str, str] = {}

# attributes of a result that hold the logits over the canvas, oldest first
LOGITS = ("_logits", "logits")

# prefixes of what is frozen and in no checkpoint
FROZEN = ("backbone.", "encoder.backbone.")


def renamed(name: str, table: dict[str, str]) -> str:
    """A name with every piece of the table in its new form."""
    for old, new in table.items():
        name = name.replace(old, new)
    return name


def is_trained(name: str) -> bool:
    """Whether a tensor of a state dict belongs into a checkpoint."""
    return not name.startswith(FROZEN)
