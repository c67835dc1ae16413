"""Opens the feature cache (``INPUT.FEATURE_CACHE``) for a model and its loaders.

The model leaves there what it encodes, and the loaders look there for views that recur.
"""

from detectron2.engine import HookBase

from ...data import set_cache
from ...data.augmentation.feature_cache import FeatureCache


def open_feature_cache(cfg, model):
    """Open the cache of a model's features. The model fills it from now on; None: it is off.

    Raises:
        ValueError: see ``FeatureCache``.
    """
    options, model = cfg.INPUT.FEATURE_CACHE, getattr(model, "module", model)  # out of DDP
    model.feature_store = None
    if options.DIR:
        spec = model.input
        identity = {part: model.fingerprint[part] for part in ("backbone", "feature", "weights")}
        identity |= {p: getattr(spec, p) for p in ("canvas", "mean", "std", "format", "resize")}
        model.feature_store = FeatureCache(options.DIR, options.MAX_GB, identity, options.DTYPE)
    return model.feature_store


class FeatureCacheHook(HookBase):
    """Opens the cache once all weights are loaded, before the loader starts."""

    def before_train(self):
        trainer = self.trainer
        if trainer.cfg.INPUT.FEATURE_CACHE.DIR:
            cache = open_feature_cache(trainer.cfg, trainer.model)
            set_cache(trainer.data_loader, cache)
