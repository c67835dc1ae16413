from .diffusion_backbone import DiffusionBackbone, build_diffusion_backbone
from .timm_backbone import TimmBackbone, build_timm_backbone
from .weights import load_backbone_weights

__all__ = [
    "DiffusionBackbone",
    "TimmBackbone",
    "build_diffusion_backbone",
    "build_timm_backbone",
    "load_backbone_weights",
]
