"""Computes the mean feature that similarities leave out, from pictures of training."""

import logging

from detectron2.engine import HookBase

from ...data.build import training_pictures
from ...modeling.segic.feature_mean import compute_feature_mean

logger = logging.getLogger(__name__)


class FeatureMeanHook(HookBase):
    """Computes the mean feature before training with ``SIMILARITY.CENTER`` "fixed".

    It does so if neither a file nor weights nor a checkpoint gave the mean, over
    ``SIMILARITY.MEAN_IMAGES`` pictures. Each process computes it for itself, from the same pictures
    whatever the number of processes. The feature cache is open by then; it serves and keeps the
    features.
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
