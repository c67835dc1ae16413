"""The frozen backbone: images in, feature maps out, none of them encoded twice.

Shape shorthand: B images, C feature channels, S canvas side (px), g grid side (cells).
"""

import hashlib

import torch

from ...structures.features import (
    Features,
    brought_features,
    image_size,
    round_features,
    tensor_bytes,
)
from ...utils.devices import upload


def _state(tensors):
    """Changes whenever one of the tensors is written or replaced; cheap."""
    return tuple((t.data_ptr(), t._version) for t in tensors)


class FrozenEncoder:
    """What ``SegIC`` does with its frozen backbone.

    The class that it is mixed into has ``backbone``, ``in_feature``, ``input`` (``InputSpec``),
    ``canvas``, ``pixel_mean``, ``pixel_std``, ``image_chunk``, ``device``, ``memory``
    (``FeatureMemory``) and ``feature_store`` (see features.py, or None).
    """

    def _backbone_hash(self):
        """Tells backbones apart by their tensors."""
        state = self.backbone.state_dict()
        names = sorted(state)

        def digest(*tensors):
            digest = hashlib.sha256()
            for name, tensor in zip(names, tensors, strict=True):
                digest.update(name.encode())
                digest.update(tensor_bytes(tensor))
            return digest.hexdigest()[:16]

        return self._read_once("backbone", [state[name] for name in names], digest)

    def _read_once(self, name, tensors, read):
        """What ``read(*tensors)`` says, asked again only when one of them changed: every picture
        needs the answer, and the host has to wait for a device that it reads."""
        known, state = self.__dict__.setdefault("_known", {}), _state(tensors)
        if name not in known or known[name][0] != state:
            known[name] = state, read(*tensors)
        return known[name][1]

    def _backbone_state(self):
        return _state(self.backbone.state_dict().values())

    @torch.no_grad()
    def encode_images(self, images):
        """Run the frozen backbone.

        Args:
            images: list of uint8 or float (3, h, w) RGB in 0–255; h, w ≤ S. Each is normalised and
                then padded right and bottom to the canvas with zeros, the mean colour. Or dicts
                that hold one as "image", such as episodes and references; in place of it, a dict
                may bring "features" (C, g, g) and "image_size" (h, w), and is not encoded.

        Returns:
            Features of the images.

        Raises:
            ValueError: an image that is no (3, h, w) tensor or does not fit the canvas.
        """
        images = [x if isinstance(x, dict) else {"image": x} for x in images]
        for image in (x["image"] for x in images if "features" not in x):
            if image.dim() != 3 or image.shape[0] != 3 or max(image.shape[1:]) > self.canvas:
                raise ValueError(
                    f"image of shape {tuple(image.shape)}: expected (3, h, w) with h, w at most "
                    f"INPUT.CANVAS {self.canvas}"
                )
        sizes, pictures = [image_size(x) for x in images], [x.get("image") for x in images]
        maps = [self._stored(x) for x in images]
        rest = [x["image"] for x, found in zip(images, maps, strict=True) if found is None]
        if len(rest) == len(maps):
            return Features(self._encode(rest), sizes, pictures)
        encoded = iter(self._encode(rest) if rest else ())
        maps = [next(encoded) if found is None else found for found in maps]
        return Features(torch.stack(maps), sizes, pictures)

    def _stored(self, image):
        """Features (C, g, g) that an image brings along or that the store keeps; None: neither.

        What the store lacks is encoded by itself, in full precision and rounded, so that features
        depend neither on their batch nor on whether, when and by whom they were stored.
        """
        shape = self.backbone.output_shape()[self.in_feature]
        cells = self.canvas // shape.stride
        found = brought_features(image, (shape.channels, cells, cells))
        if found is None:
            store, key = self.feature_store, image.get("feature_key")
            if store is None or key is None:
                return None
            found = store.get(key)  # this or another process may just have met the same view
            if found is None:
                with torch.autocast(self.device.type, enabled=False):
                    (found,) = next(self._run_backbone([image["image"]]))
                found = round_features(found, store.dtype, image.get("file_name", "an image"))
                store.put(key, found)
        return found.to(self.device).float()

    def _encode(self, images):
        """Feature maps (B, C, g, g) of images (3, h, w)."""
        if not self.memory.capacity:
            return torch.cat(list(self._run_backbone(images)))
        half = torch.is_autocast_enabled(self.device.type)  # as of training, not of evaluation
        self.memory.use((*self._backbone_state(), half))
        keys = [self.memory.key(image) for image in images]
        maps = {key: self.memory.get(key) for key in keys}
        new = {key: image for key, image in zip(keys, images, strict=True) if maps[key] is None}
        encoded = (one for part in self._run_backbone(list(new.values())) for one in part)
        for key, one in zip(new, encoded, strict=True):
            maps[key] = one
            self.memory.put(key, one)
        return torch.stack([maps[key] for key in keys])

    def _run_backbone(self, images):
        """Feature maps (≤ IMAGE_CHUNK, C, g, g) of normalised, padded images, chunk by chunk."""
        for start in range(0, len(images), self.image_chunk):
            part = images[start : start + self.image_chunk]
            batch = self.pixel_mean.new_zeros(len(part), 3, self.canvas, self.canvas)
            for row, image in zip(batch, part, strict=True):
                pixels = upload(image, self.device).to(torch.float32)  # there, for fewer bytes go
                if self.input.format == "BGR":
                    pixels = pixels.flip(0)
                row[:, : image.shape[1], : image.shape[2]] = (
                    pixels - self.pixel_mean[0]
                ) / self.pixel_std[0]
            yield self.backbone(batch)[self.in_feature].float()
