from .build import (
    build_diffusion_backbone,
    build_pyramid,
    build_retinanet_timm_fpn_backbone,
    build_timm_backbone,
    build_timm_fpn_backbone,
)
from .diffusion_backbone import DiffusionBackbone
from .statistics import set_pixel_statistics
from .timm_backbone import TimmBackbone
from .weights import ensure_weights, load_backbone_weights

__all__ = [
    "DiffusionBackbone",
    "TimmBackbone",
    "build_diffusion_backbone",
    "build_pyramid",
    "build_retinanet_timm_fpn_backbone",
    "build_timm_backbone",
    "build_timm_fpn_backbone",
    "ensure_weights",
    "load_backbone_weights",
    "set_pixel_statistics",
]
