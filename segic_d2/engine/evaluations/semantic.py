"""The evaluation "semantic": label maps of all classes, and of the classes that are present."""

import logging
import os
import re
from typing import Any

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluators
from torch.utils.data import DataLoader

from ...data import build_target_loader
from ...data.datasets.class_list import background_ids
from ...data.index import load_records
from ...evaluation import LabelMapEvaluator
from ...io.masks import IGNORE_LABEL
from .base import Evaluation, Results
from .context_file import dataset_context
from .label_maps import MODES, LabelMaps, OwnReferences
from .result_names import conditions

logger = logging.getLogger(__name__)
NOTE = (  # and nobody publishes which pictures are the references
    "the published references were drawn at random and are not known; the paper compared each "
    "shown class's mask with its own truth and merged no label map"
)
NAMED = 20  # in the log; results.json has all
# names in results; other datasets keep their own
SHORT = {f"{name}_sem_seg_val": name for name in ("ade20k", "coco", "a847", "pc459")}


class Semantic(Evaluation, name="semantic"):
    """mIoU by the stock SemSegEvaluator, with all classes competing ("all") and with those that an
    image shows ("present", the paper's "#"). Images are encoded once for both. A pixel goes to the
    class with the highest logit above the model's threshold. Where no class passes, it is
    background if the dataset has that class, else the ignored label, which counts as a miss. With
    ``TEST.NO_CLASS`` "best" the highest logit always decides."""

    def build_loader(self) -> DataLoader[Any]:
        """The loader of the labelled images. ValueError: a dataset without label maps."""
        cfg, name = self.cfg, self.dataset_name
        self.targets = load_records(name)  # which fills the metadata
        self.need("label maps of all classes", "stuff_classes")
        return build_target_loader(cfg, name, self.cache, mapper="labelled_target")

    def build_evaluator(self) -> DatasetEvaluators:
        """What needs the context of all classes; ValueError as of ``dataset_context``."""
        cfg, name = self.cfg, self.dataset_name
        meta = MetadataCatalog.get(name)
        classes = list(meta.stuff_classes)
        hidden = background_ids(name, classes)
        self.nothing = min(hidden, default=meta.get("ignore_label", IGNORE_LABEL))
        kept = os.path.join(self.output_dir or "", "context.safetensors")
        context = dataset_context(cfg, self.model, name, kept, before=self.verify)
        never = [i for i in range(len(classes)) if i not in hidden and i not in set(context.ids)]
        self.references = OwnReferences(context.to(self.model.device), cfg.TEST.SHOTS)
        left_out = self.references.left_out(self.targets)
        self.skipped = [f"class {i} ({classes[i]}): it has no reference" for i in never]
        for file, ids in sorted(left_out.items()):
            end = f"in {file}: its only reference is this image"
            self.skipped += [f"class {i} ({classes[i]}) {end}" for i in ids]
        for what in self.skipped[:NAMED]:
            logger.warning("%s is not scored: %s", name, what)
        if len(self.skipped) > NAMED:
            logger.warning("%s: and %d more", name, len(self.skipped) - NAMED)
        asked = [c for i, c in enumerate(classes) if i not in hidden]
        self.seen, self.text = conditions(cfg, asked)
        self.short = SHORT.get(name, re.sub(r"[^\w]+", "_", name).strip("_"))
        about = f"{cfg.TEST.SHOTS}shot-{self.seen}-{self.text}"
        self.tasks = {mode: f"sem_seg-{self.short}-{mode}-{about}" for mode in MODES}
        parts = []
        for mode, task in self.tasks.items():
            folder = self.output_dir and os.path.join(self.output_dir, mode)
            parts.append(LabelMapEvaluator(name, mode, task, never, left_out, folder))
        return DatasetEvaluators(parts)

    def build_model(self) -> LabelMaps:
        always = self.cfg.TEST.NO_CLASS == "best"
        return LabelMaps(self.model, self.references, self.nothing, always)

    def report(self, found: Results) -> tuple[Results, dict[str, Any]]:
        """Metrics are "mIoU_all", …, "mIoU_present", …; "classes" has those of each class."""
        metrics: dict[str, Any] = {}
        classes: dict[str, Any] = {}
        for mode, task in self.tasks.items():
            metrics |= {f"{k}_{mode}": v for k, v in found[task].items() if "-" not in k}
            classes[mode] = {k: v for k, v in found[task].items() if "-" in k}
        return found, {
            "benchmark": f"sem_seg-{self.short}",
            "seen": self.seen,
            "text": self.text,
            "note": NOTE,
            "metrics": metrics,
            "skipped": self.skipped,
            "images": len(self.targets),
            "classes": classes,
        }
