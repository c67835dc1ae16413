"""Runs the protocol "real pairs" on a model. Every picture is encoded once.

Shape shorthand: R references, C feature channels, g grid side (cells), H×W a target's own size.
"""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ...data.augmentation.degrade import MASKS, PICTURES
from ...data.datasets.folder import class_title, pair_files
from ...evaluation.pairs import PooledIoU, absent_episodes, auroc, boundary, overlap, pair_episodes
from ...evaluation.threshold import best_threshold, histograms
from ...io.masks import read_binary_mask
from ...io.pictures import read_image
from ...structures.features import Features
from ...structures.frame import masks_in_image, resize_to_image
from ...structures.picture import Picture
from ...structures.view import check_size

AT_ONCE = 8  # episodes of a target that are decoded in one pass


@dataclass
class Example:
    """One picture of a class, encoded.

    Attributes:
        features: ``Features`` of the one picture.
        reference: the picture as a reference of an episode. mask: bool (H, W). edge: its boundary.
        picture: hash of the picture's pixels.
    """

    features: Features
    reference: dict
    mask: torch.Tensor
    edge: torch.Tensor
    picture: str


@dataclass
class Timer:
    """Sums the CPU seconds of this process by the kind of work."""

    seconds: dict = field(default_factory=dict)

    def run(self, name, call, *args, number=1):
        start = time.process_time()
        result = call(*args)
        spent, times = self.seconds.get(name, (0.0, 0))
        self.seconds[name] = spent + time.process_time() - start, times + number
        return result

    def means(self):
        return {name: spent / times for name, (spent, times) in self.seconds.items()}


def read_classes(folder):
    """{class name: [(picture file, mask file), …]} of a folder of class folders, sorted by name.

    Raises:
        FileNotFoundError: no such folder, or a picture or mask without the other.
        ValueError: no class folder, or a class with less than two examples.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    found = {}
    for own in sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith(".")):
        pairs = pair_files(own)
        if len(pairs) < 2:
            raise ValueError(f"{own} has {len(pairs)} picture(s) with a mask; a pair needs two")
        found[class_title(own.name)] = pairs
    if not found:
        raise ValueError(f"{root} has no class folders (CLASS/N.jpg with its mask CLASS/N.png)")
    return found


class PairEvaluation:
    """All measurements of one model on one folder.

    Args:
        model: ``SegIC`` in eval mode.
        classes: see ``read_classes``.
        shots: K, see ``pair_episodes``.
        seed: of the references where K > 1, and of the targets without the entity.
        trained: False if the decoder is random; then only the propagated mask is measured.

    Raises:
        FileNotFoundError, ValueError: naming the file that cannot be used.
    """

    def __init__(self, model, classes, shots=1, seed=0, trained=True):
        self.model, self.names, self.trained = model, list(classes), trained
        self.timer, self.seed, self.shots = Timer(), seed, shots
        self.files = [list(pairs) for pairs in classes.values()]
        self.episodes = pair_episodes([len(pairs) for pairs in self.files], shots, seed)
        self.examples = [[self._example(*pair) for pair in pairs] for pairs in self.files]

    def _encode(self, view):
        return self.timer.run("encode", self.model.encode_images, [view])

    def _example(self, picture_file, mask_file):
        picture, mask = read_image(picture_file), read_binary_mask(mask_file)
        check_size(mask, picture.shape[:2], mask_file, picture_file)
        if not mask.any():
            raise ValueError(f"{mask_file} is an empty mask")
        features = self._encode(self.model.input.target(Picture(picture)))
        bits = torch.from_numpy(mask)
        return Example(
            features=features,
            reference=self._reference(picture_file, picture, mask, features),
            mask=bits,
            edge=boundary(bits),
            picture=hashlib.sha256(picture.tobytes()).hexdigest(),
        )

    def _reference(self, picture_file, picture, mask, features):
        """A picture as a reference of an episode. It is encoded again if its view is a cut.

        Args:
            picture: uint8 array (H, W, 3). mask: bool array (H, W). features: of the whole picture.
        """
        view = self.model.input.reference(Picture(picture), mask[None])
        if not torch.equal(view["image"], features.pictures[0]):
            features = self._encode(view)
        return {
            "features": features.map[0],
            "image_size": tuple(features.image_sizes[0]),
            "masks": view["masks"],
            "entity_ids": torch.tensor([0]),
            "file_name": str(picture_file),
        }

    # ---- one pass over episodes ------------------------------------------------------------

    def _context(self, label, references, change_mask=None):
        """The context of examples of a class; ``change_mask`` makes their masks worse."""
        if change_mask is None:
            shown = [self.examples[label][i].reference for i in references]
        else:
            shown = [self._changed(label, i, change_mask) for i in references]
        episode = {
            "entities": [{"id": 0, "name": self.names[label]}],
            "task": "semantic",
            "references": shown,
        }
        return self.model.episode_context(episode, torch.stack([r["features"] for r in shown]))

    def _changed(self, label, i, change_mask):
        example, picture_file = self.examples[label][i], self.files[label][i][0]
        mask = change_mask(example.mask.numpy())
        return self._reference(picture_file, read_image(picture_file), mask, example.features)

    @torch.no_grad()
    def predict(self, episodes, change_mask=None, change_picture=None):
        """Segment episodes, target by target.

        Args:
            episodes: list of (class, references, class of the target, target).
            change_mask, change_picture: functions of ``degrade``, or None.

        Returns:
            iterator of (number of the episode, propagated mask float (r, r), logits (4g, 4g) or
            None, score or None, (h, w) of the target on the canvas).
        """
        contexts, by_target = {}, {}
        for number, (label, references, *target) in enumerate(episodes):
            by_target.setdefault(tuple(target), []).append((number, (label, references)))
            if (label, references) not in contexts:
                context = self._context(label, references, change_mask)
                contexts[label, references] = context
        for (label, i), asked in by_target.items():
            example = self.examples[label][i]
            features = example.features
            if change_picture is not None:
                picture = change_picture(read_image(self.files[label][i][0]))
                features = self._encode(self.model.input.target(Picture(picture)))
            for start in range(0, len(asked), AT_ONCE):
                part = asked[start : start + AT_ONCE]
                batch, size = features[[0] * len(part)], tuple(features.image_sizes[0])
                own = [contexts[key] for _, key in part]
                maps = self.model.propagated_mask(batch, own)
                logits = scores = [None] * len(part)
                if self.trained:
                    logits, quality = self.timer.run(
                        "decode", self.model.segment_scored, batch, own, number=len(part)
                    )
                    scores = [
                        float(self.model.scored(low, size, q)[0][0])
                        for low, q in zip(logits, quality, strict=True)
                    ]
                rows = zip(part, maps, logits, scores, strict=True)
                for (number, _), similarity, low, score in rows:
                    yield number, similarity[0], None if low is None else low[0], score, size

    def _full_size(self, low, size, example, threshold):
        frame = self.model.canvas, size, *example.mask.shape
        return masks_in_image(low[None], *frame, threshold)[0].cpu()

    # ---- measurements ----------------------------------------------------------------------

    def measure(self, thresholds=(), change_mask=None, change_picture=None, find_best=False):
        """IoU and boundary IoU of the model and of thresholded propagated masks.

        Args:
            thresholds: of the propagated mask. find_best: also the best one on these data.

        Returns:
            {"model" (where trained): result of ``PooledIoU``, "propagated mask > T": … for each
            threshold, "best": … with "threshold"}; and the scores of the episodes, [] untrained.
        """
        found, maps, scores = {}, [], []
        if self.trained:
            found["model"] = PooledIoU(self.names)
        levels = [0] * len(self.names)
        lost = PooledIoU(self.names)  # the model's sums where it abstains
        present = [(label, refs, label, target) for label, refs, target in self.episodes]
        for number, similarity, low, score, size in self.predict(
            present, change_mask, change_picture
        ):
            label, _, target = self.episodes[number]
            example = self.examples[label][target]
            maps.append((label, example, similarity, size))
            if find_best:
                frame = self.model.canvas, size, *example.mask.shape
                full = resize_to_image(similarity[None], *frame)[0].cpu()
                levels[label] = levels[label] + histograms(full, example.mask)
            if low is None:
                continue
            scores.append(score)
            mask = self._full_size(low, size, example, self.model.threshold)
            counts = overlap(mask, example.mask, example.edge)
            found["model"].add(label, counts)
            if score < self.model.min_score:
                mask = torch.zeros_like(mask)
                counts = overlap(mask, example.mask, example.edge)
            lost.add(label, counts)
        named = {f"propagated mask > {t:g}": t for t in thresholds}
        if find_best:
            named["best threshold"] = best_threshold(levels)[0]
        for name, threshold in named.items():
            found[name] = PooledIoU(self.names)
            for label, example, similarity, size in maps:
                mask = self._full_size(similarity, size, example, threshold)
                found[name].add(label, overlap(mask, example.mask, example.edge))
        results = {name: pooled.result() for name, pooled in found.items()}
        if find_best:
            results["best threshold"]["threshold"] = named["best threshold"]
        if self.trained:
            results["model"]["lost_by_abstaining"] = results["model"]["IoU"] - lost.result()["IoU"]
        return results, scores

    def robustness(self, threshold):
        """Measure worse masks and pictures: {variant: {"model" (where trained), "propagated mask":
        result}}. The propagated mask has one fixed threshold."""
        rows = {}
        variants = [(name, {"change_mask": f}) for name, f in MASKS.items()]
        variants += [(name, {"change_picture": f}) for name, f in PICTURES.items()]
        for name, change in variants:
            results, _ = self.measure([threshold], **change)
            other = results.pop(f"propagated mask > {threshold:g}")
            rows[name] = {**results, "propagated mask": other}
        return rows

    def flipped(self):
        """Result of ``PooledIoU`` with test-time flips: each target is also segmented mirrored, and
        the two logit maps are averaged."""
        present = [(label, refs, label, target) for label, refs, target in self.episodes]
        straight = {number: (low, size) for number, _, low, _, size in self.predict(present)}
        pooled = PooledIoU(self.names)
        mirrored = self.predict(present, change_picture=lambda x: x[:, ::-1].copy())
        for number, _, low, _, size in mirrored:
            label, _, target = self.episodes[number]
            example = self.examples[label][target]
            frame = self.model.canvas, size, *example.mask.shape
            both = [resize_to_image(x[None], *frame)[0] for x in (straight[number][0], low)]
            mean = (both[0] + both[1].flip(-1)) / 2
            counts = overlap((mean > self.model.threshold).cpu(), example.mask, example.edge)
            pooled.add(label, counts)
        return pooled.result()

    def abstention(self, present_scores):
        """{"AUROC", "present", "absent"}: the score's AUROC, and the numbers of targets.

        Raises:
            ValueError: every picture shows every class, so nothing is ever absent.
        """
        pictures = [[e.picture for e in examples] for examples in self.examples]
        absent = absent_episodes(self.episodes, pictures, self.seed)
        if not absent:
            raise ValueError("no picture is without a class: absence cannot be measured")
        scores = [score for _, _, _, score, _ in self.predict(absent)]
        return {
            "AUROC": auroc(present_scores, scores),
            "present": len(present_scores),
            "absent": len(scores),
        }
