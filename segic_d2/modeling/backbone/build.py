"""Our backbones in Detectron2's registry: with their weights, whichever meta-architecture asks."""

import math

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, Backbone, SimpleFeaturePyramid
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from .diffusion_backbone import DiffusionBackbone
from .statistics import warn_of_statistics
from .timm_backbone import FEATURE, TimmBackbone
from .weights import load_backbone_weights

SCALES = 4.0, 2.0, 1.0, 0.5  # of the map, p2 to p5
STRIDE = 16  # that these levels need


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> TimmBackbone:
    """The timm model of ``cfg.MODEL.TIMM``, with the weights of ``MODEL.BACKBONE.WEIGHTS``."""
    backbone = TimmBackbone(cfg, input_shape)
    load_backbone_weights(backbone, cfg.MODEL.BACKBONE.WEIGHTS)
    warn_of_statistics(cfg, backbone)
    return backbone


@BACKBONE_REGISTRY.register()
def build_diffusion_backbone(
    cfg: CfgNode, input_shape: ShapeSpec | None = None
) -> DiffusionBackbone:
    """The diffusion model of ``cfg.MODEL.DIFFUSION``, with its weights."""
    backbone = DiffusionBackbone(cfg, input_shape)
    load_backbone_weights(backbone, cfg.MODEL.BACKBONE.WEIGHTS)
    warn_of_statistics(cfg, backbone)
    return backbone


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """``build_pyramid`` over ``build_timm_backbone``; the pyramid is trained."""
    return build_pyramid(cfg, build_timm_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_retinanet_timm_fpn_backbone(
    cfg: CfgNode, input_shape: ShapeSpec | None = None
) -> Backbone:
    """``build_timm_fpn_backbone`` with RetinaNet's levels p6 and p7, convolved from p5."""
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    top = LastLevelP6P7(channels, channels, "p5")
    return build_pyramid(cfg, build_timm_backbone(cfg, input_shape), top)


def build_pyramid(cfg: CfgNode, backbone: Backbone, top: nn.Module | None = None) -> Backbone:
    """A pyramid over a backbone, of MODEL.FPN.OUT_CHANNELS channels, with MODEL.FPN.NORM. Its
    ``needs_training`` says that no weights bring it: models that freeze a backbone refuse it.

    One map: ViTDet's simple feature pyramid (arXiv 2203.16527), p2 to p5; without a norm it has
    ViTDet's, "LN". Several maps: Detectron2's FPN over all of them. Coarser levels are of ``top``,
    a top block of Detectron2's FPN (None: one level, pooled).

    Raises:
        ValueError: one map of another stride than 16, or several without one of each stride.
    """
    pyramid = _pyramid(cfg, backbone, top or LastLevelMaxPool())
    pyramid.needs_training = True
    return pyramid


def _pyramid(cfg, backbone, top):
    shapes, options = backbone.output_shape(), cfg.MODEL.FPN
    names = sorted(shapes, key=lambda name: shapes[name].stride)
    strides = [shapes[name].stride for name in names]
    channels, norm, timm = options.OUT_CHANNELS, options.NORM, isinstance(backbone, TimmBackbone)
    if len(names) == 1:
        if strides != [STRIDE]:
            advice = f"set MODEL.TIMM.STRIDE {STRIDE}" if timm else "take another backbone"
            raise ValueError(
                f"a simple feature pyramid needs a map of stride {STRIDE}, not {strides[0]} of "
                f"{type(backbone).__name__}; {advice}"
            )
        return SimplePyramid(backbone, names[0], channels, SCALES, top, norm or "LN")
    if any(b != 2 * a for a, b in zip(strides, strides[1:], strict=False)):
        advice = "give the pyramid one map, or one of each stride"
        if timm and len({*strides}) == 1:
            advice = f"set MODEL.TIMM.OUT_FEATURES \"('{FEATURE}',)\", the one map of .BLOCKS"
        elif timm:
            advice = "choose other MODEL.TIMM.OUT_FEATURES"
        raise ValueError(
            f"an FPN needs maps whose strides double, not {strides} of {', '.join(names)}; {advice}"
        )
    return FPN(backbone, names, channels, norm, top, options.FUSE_TYPE)


class SimplePyramid(SimpleFeaturePyramid):
    """Detectron2's, with inputs padded to whole cells of p5 and of the backbone; Detectron2's own
    are padded to one square size, or not at all."""

    @property
    def size_divisibility(self) -> int:
        return math.lcm(int(STRIDE / SCALES[-1]), self.net.size_divisibility or 1)

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {}
