"""Opens the feature cache (``INPUT.FEATURE_CACHE``), which a model fills and its loaders read."""

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch import nn

from ...config.keys import check_config
from ...data import set_cache
from ...data.augmentation.feature_cache import FeatureCache
from ...modeling.layers.frozen_encoder import FrozenEncoder


def open_feature_cache(cfg: CfgNode, model: nn.Module) -> FeatureCache | None:
    """Open the cache of a model's features, which the model fills from now on; None: it is off.
    ValueError: see ``FeatureCache``."""
    options, model = cfg.INPUT.FEATURE_CACHE, getattr(model, "module", model)  # out of DDP
    encoder = getattr(model, "encoder", None)
    if not isinstance(encoder, FrozenEncoder):
        return None  # nothing of this model is frozen, so that nothing recurs
    encoder.store = None
    check_config(cfg, "INPUT.FEATURE_CACHE")
    if options.DIR:
        parts = ("canvas", "mean", "std", "format", "resize")
        identity = {**encoder.identity, **{p: getattr(encoder.input, p) for p in parts}}
        if encoder.input.multiple:  # caches from before there was a choice stay valid
            identity["multiple"] = encoder.input.multiple
        encoder.store = FeatureCache(options.DIR, options.MAX_GB, identity, options.DTYPE)
    return encoder.store


class FeatureCacheHook(HookBase):
    """Opens the cache once all weights are loaded, before the loader starts; not with
    ``INPUT.MULTIPLE``, for training pads its views and evaluation then does not."""

    def before_train(self) -> None:
        t = self.trainer
        if t.cfg.INPUT.FEATURE_CACHE.DIR and not t.cfg.INPUT.MULTIPLE:
            set_cache(t.data_loader, open_feature_cache(t.cfg, t.model))
