"""MODEL.BACKBONE.WEIGHTS: where a backbone starts, whichever backbone of the registry it is.

They are separate from MODEL.WEIGHTS, which holds what was trained.
"""

import logging
import re
import sys
from collections.abc import Mapping

import timm
import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from torch import Tensor, nn

from ...checkpoint.files import KEY, read_checkpoint
from ...utils.files import AnyPath
from ...utils.remote import first_line
from .sources import RANDOM, not_fetched, timm_hub_name
from .timm_backbone import TimmBackbone

logger = logging.getLogger(__name__)

ON_META = "build_timm_backbone", "build_resnet_backbone"  # torch's meta device knows all of them

_TORCHVISION_RESNET = (  # from torchvision's names to Detectron2's; layer1 is res2
    (r"^(conv1|bn1)\.", r"stem.\1."),
    (r"^layer(\d)\.", lambda m: f"res{int(m[1]) + 1}."),
    (r"\.bn(\d)\.", r".conv\1.norm."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
)


def ensure_weights(backbone: Backbone, weights: str) -> None:
    """``load_backbone_weights``, unless the builder of the backbone has called it already, as those
    of this package do and Detectron2's own cannot."""
    if getattr(backbone, "source", None) is None:
        load_backbone_weights(backbone, weights)


def load_backbone_weights(backbone: Backbone, weights: str) -> None:
    """Load weights into a backbone, all of them or none, as MODEL.BACKBONE.WEIGHTS says. Then
    ``backbone.source`` names where they came from, "" if nowhere. Nothing is done on torch's meta
    device, which holds no numbers.

    - "": what the backbone brought along; else it stays random, with a warning;
    - "random": it stays as its builder made it, because that is meant;
    - "embedded": the ViT-S/14 of the demo, see ``embedded.py``;
    - "timm" or "timm:TAG": timm's hub, for a ``TimmBackbone``;
    - a .safetensors, .pth, .pt or .bin file, or a .pkl of Detectron2's model zoo, as a path or as
      whatever Detectron2's ``PathManager`` knows (detectron2://, https://). For a Detectron2
      ResNet the file may be torchvision's, an ImageNet backbone or a whole detector; for a timm
      model, anything that timm's own loader converts, position embeddings of another size too.

    A ResNet's STRIDE_IN_1X1 and pixel statistics are no part of a checkpoint: torchvision's need
    False and RGB, the MSRA models of Detectron2's zoo True and BGR.

    Raises:
        FileNotFoundError: no such file, or it cannot be fetched.
        ValueError: tensors that the backbone needs are absent or of another shape (listed), the
            file holds more than tensors, or the source does not serve this backbone.
    """
    if any(p.is_meta for p in backbone.parameters()):
        return
    if not weights:
        if getattr(backbone, "source", ""):  # of one that is never without weights
            logger.info(f"backbone loaded from {backbone.source}")
        else:
            backbone.source = ""
            logger.warning(
                f"{KEY} is empty: the backbone is random, unless a checkpoint of the whole model "
                "(MODEL.WEIGHTS) holds it"
            )
        return
    if weights == RANDOM:
        backbone.source = ""
        logger.info(f"{KEY} is {RANDOM!r}: the backbone stays as it was built")
        return
    source: AnyPath = weights
    module = _module(backbone)
    if weights == "timm" or weights.startswith("timm:"):
        state = _from_timm_hub(backbone, weights.partition(":")[2], f"{KEY} {weights!r}")
    else:
        if weights == "embedded":
            from .embedded import embedded_weights

            source = embedded_weights()
        state = _from_file(module, source)
    module.load_state_dict(_fitting(module, state, f"{KEY} {weights!r}"), strict=False)
    backbone.source = str(source)
    logger.info(f"backbone loaded from {source}")


def check_weights_fit(cfg: CfgNode) -> None:
    """Build the backbone without numbers, if its builder is one of ``ON_META``, and compare the
    file of ``MODEL.BACKBONE.WEIGHTS`` with it, if it is a file; for any other builder the file is
    read. A file that cannot be had is for ``check_backbone_weights`` to name.

    Raises:
        ValueError: as of the builder, and as of ``load_backbone_weights``.
    """
    weights, module = cfg.MODEL.BACKBONE.WEIGHTS, None
    if cfg.MODEL.BACKBONE.NAME in ON_META:
        with torch.device("meta"):
            backbone = build_backbone(cfg)
        module = _module(backbone)
    if weights in ("", RANDOM, "embedded", "timm") or weights.startswith("timm:"):
        return
    try:
        if module is not None:
            _fitting(module, _from_file(module, weights), f"{KEY} {weights!r}")
        elif not read_checkpoint(weights)[0]:
            raise ValueError(f"{KEY}: {weights} holds no tensors")
    except FileNotFoundError:
        pass


def _module(backbone: Backbone) -> nn.Module:
    return backbone.model if isinstance(backbone, TimmBackbone) else backbone


def _from_file(module: nn.Module, source: AnyPath) -> dict[str, Tensor]:
    """The tensors of a file by the names of a module, which is timm's or Detectron2's."""
    state, from_caffe2 = read_checkpoint(source)
    if not state:
        raise ValueError(f"{KEY}: {source} holds no tensors")
    state = _strip_prefix(state, module)
    if isinstance(module, Backbone):
        return _detectron2_names(state, module, from_caffe2)
    # timm's loader of the family knows foreign names and position embeddings
    convert = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
    return convert(state, module) if convert else state


def _from_timm_hub(backbone: Backbone, tag: str, source: str) -> dict[str, Tensor]:
    if not isinstance(backbone, TimmBackbone):
        raise ValueError(f"{source} needs a timm backbone, not {type(backbone).__name__}")
    name = timm_hub_name(backbone.name, tag)
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0, **backbone.kwargs)
    except Exception as error:  # the hub raises many kinds: no access, cut off, damaged
        raise not_fetched(source, name, f"{type(error).__name__}: {first_line(error)}") from error
    return model.state_dict()


def _strip_prefix(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Remove the prefix of the backbone in a whole model, e.g. "backbone.bottom_up."."""
    names = module.state_dict().keys()
    covered = {"": sum(name in state for name in names)}
    # a prefix must lead to at least one tensor; a few of ours show all candidates
    for probe in list(names)[:: max(1, len(names) // 8)]:
        for key in state:
            prefix = key.removesuffix(probe)
            if prefix != key and prefix.endswith(".") and prefix not in covered:
                covered[prefix] = sum(prefix + name in state for name in names)
    best = max(covered, key=covered.get)
    return {key.removeprefix(best): value for key, value in state.items() if key.startswith(best)}


def _detectron2_names(
    state: dict[str, Tensor], module: nn.Module, from_caffe2: bool
) -> dict[str, Tensor]:
    if any(key.startswith("layer1.") for key in state):
        renamed = {}
        for key, value in state.items():
            for pattern, new in _TORCHVISION_RESNET:
                key = re.sub(pattern, new, key)
            renamed[key.replace("stem.bn1.", "stem.conv1.norm.")] = value
        state = renamed
    state = align_and_update_state_dicts(module.state_dict(), state, c2_conversion=from_caffe2)
    if not any("running_" in key for key in state):
        # the statistics of Caffe2's models are folded into weight and bias
        for name, value in module.state_dict().items():
            owner, _, statistic = name.rpartition(".")
            if statistic in ("running_mean", "running_var") and f"{owner}.weight" in state:
                fill = torch.zeros_like if statistic == "running_mean" else torch.ones_like
                state[name] = fill(value)
    return state


def _fitting(module: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """All that ``module`` needs, out of ``state``; ValueError lists what is not there."""
    problems, needed = [], {}
    for name, own in module.state_dict().items():
        if name not in state:
            if not name.endswith("num_batches_tracked"):  # counted in training only
                problems.append(f"{name} (absent)")
        elif state[name].shape != own.shape:
            problems.append(f"{name} ({tuple(state[name].shape)}, needed {tuple(own.shape)})")
        else:
            needed[name] = state[name]
    if problems:
        rest = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise ValueError(
            f"{source} does not fit the backbone: {len(problems)} of its "
            f"{len(module.state_dict())} tensors are missing or of another shape: "
            f"{', '.join(problems[:10])}{rest}"
        )
    return needed
