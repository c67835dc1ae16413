"""The mean feature that the similarity leaves out, taken of the training's own pictures."""

import logging

from detectron2.engine import HookBase

from ...data.build import training_pictures
from ...modeling.segic.feature_mean import compute_feature_mean

logger = logging.getLogger(__name__)


class FeatureMeanHook(HookBase):
    """Before training with ``SIMILARITY.CENTER`` "fixed", computes the mean that no file, no
    weights and no checkpoint gave, over ``SIMILARITY.MEAN_IMAGES`` pictures.

    The same pictures whatever the number of processes, each of which computes it for itself. After
    the feature cache is open, which then serves and keeps their features.
    """

    def before_train(self):
        cfg, model = self.trainer.cfg, self.trainer.model
        model = getattr(model, "module", model)  # out of DDP
        mean = model.sem_seg_head.feature_mean
        if mean is None or mean.any():
            return
        count = cfg.MODEL.SEGIC.SIMILARITY.MEAN_IMAGES
        pictures = training_pictures(cfg, count, model.feature_store)
        mean.copy_(compute_feature_mean(model, pictures))
        logger.info(
            "mean feature of up to %d pictures of training: length %.3f", count, mean.norm()
        )
