"""What labelling tools export, one file per format, behind one registry."""

from . import coco, cvat, folder, labelme, labelstudio, voc, vos, yolo  # noqa: F401
from .records import Annotated, AnnotationSet, Pictures, Thing
from .registry import (
    ANNOTATION_REGISTRY,
    format_of,
    need_free,
    read_annotations,
    references_in,
    require_writable,
    write_annotations,
)
from .single import masks_of_file

__all__ = [
    "ANNOTATION_REGISTRY",
    "Annotated",
    "AnnotationSet",
    "Pictures",
    "Thing",
    "format_of",
    "masks_of_file",
    "need_free",
    "read_annotations",
    "references_in",
    "require_writable",
    "write_annotations",
]
