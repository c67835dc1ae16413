from .timm_backbone import TimmBackbone, build_timm_backbone
from .weights import load_backbone_weights

__all__ = ["TimmBackbone", "build_timm_backbone", "load_backbone_weights"]
