"""Computes the mean feature that similarities leave out, from pictures of training."""

import logging

from detectron2.engine import HookBase

from ...data.build import training_pictures
from ...modeling.segic.feature_mean import compute_feature_mean

logger = logging.getLogger(__name__)


class FeatureMeanHook(HookBase):
    """Computes the mean feature before training with ``SIMILARITY.CENTER`` "fixed", unless a file,
    weights or a checkpoint gave it. Each process takes the same ``SIMILARITY.MEAN_IMAGES``
    pictures, whatever the number of processes. The feature cache is open by then."""

    def before_train(self) -> None:
        cfg, model = self.trainer.cfg, self.trainer.model
        model = getattr(model, "module", model)  # out of DDP
        similarity = getattr(getattr(model, "sem_seg_head", None), "similarity", None)
        mean = getattr(similarity, "feature_mean", None)
        if mean is None or mean.any():
            return
        most = cfg.MODEL.SEGIC.SIMILARITY.MEAN_IMAGES
        pictures = training_pictures(cfg, most, model.encoder.store)
        mean.copy_(compute_feature_mean(model, pictures))
        logger.info("mean feature of up to %d pictures of training: length %.3f", most, mean.norm())
