"""The cases of the reference files that decode masks, computed by this package.

A case is run once, through the public steps of the model with autograd on (the plain path), while
hooks keep what every module received and returned: the modules bear the released names.

Shape shorthand: n entities, S canvas side (px), g grid side (cells), W decoder width.
"""

import re
from types import SimpleNamespace
from unittest.mock import patch

import torch

from segic_d2.modeling.layers.correspondence import center_samples, pool_mask
from segic_d2.modeling.layers.upsampled import similarity_of_upsampled, upsampled_norm
from segic_d2.modeling.segic import released
from segic_d2.structures.frame import Frame


class Unknown(Exception):
    """An entry that nothing here knows how to compute."""


class Inference:
    """Cases A, B, C, E: references in, masks out.

    Args:
        golden: the reference files; case: which of their cases.
        autograd: False runs what inference runs, where only the outputs can be compared.
    """

    def __init__(self, golden, case, autograd=True):
        self.golden, self.case, self.seen = golden, case, {}
        self.model = model = golden.model(case)
        self.head = head = model.sem_seg_head
        self.episode = episode = golden.episode(case)
        self.size = episode["height"], episode["width"]
        hooked = dict(head.named_modules()) if autograd else {"": head}
        handles = [m.register_forward_hook(self._hook(name)) for name, m in hooked.items()]
        encoder = head.prompt_encoder
        try:
            with (
                torch.set_grad_enabled(autograd),
                patch.object(encoder, "encode_points", wraps=encoder.encode_points) as points,
            ):
                names = {e["id"]: e["name"] for e in episode["entities"]}
                self.features = model.encode_images([episode["image"]])
                self.context = model.encode_context(episode["references"], names, episode["task"])
                (found,) = model.segment(self.features, self.context)
                self.logits = found.logits
                if autograd:
                    self.points, self.labels = points.call_args.args
                    self._other_mask_tokens()
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name):
        def hook(module, args, output):
            self.seen.setdefault(name, []).append(SimpleNamespace(args=args, output=output))

        return hook

    def _other_mask_tokens(self):
        """The released decoder runs all hyper-networks and drops the masks of all but the first."""
        for i, network in enumerate(self.head.mask_decoder.output_hypernetworks_mlps):
            if f"mask_decoder.output_hypernetworks_mlps.{i}" not in self.seen:
                network(self.tokens_out[:, 1 + i])

    def call(self, name):
        """The one call of a module of the head, by its name: its ``args`` and ``output``."""
        calls = self.seen.get(name, [])
        if len(calls) != 1:
            raise Unknown(f"module {name!r} ran {len(calls)} times: no result, or more than one")
        return calls[0]

    def output(self, name):
        return self.call(name).output

    @property
    def tokens(self):
        return self.call("mask_decoder.transformer").args[0]

    @property
    def tokens_out(self):
        return self.output("mask_decoder.transformer")[0]

    @property
    def sparse(self):
        return self.tokens[:, 1 + len(self.head.mask_decoder.mask_tokens.weight) :]

    @property
    def text_tokens(self):
        return self.sparse[:, self.points.shape[1] + 1 :]  # behind the points and the padding point

    def entry(self, name):
        """The tensor of an entry of this case; ``Unknown`` if there is no such computation."""
        if name.startswith("mod/"):
            return self.output(name.removeprefix("mod/"))
        upsampled = re.fullmatch(r"feat_up_sub(\d+)", name)
        if upsampled:
            return self.upsampled_features(int(upsampled[1]))
        if name not in INFERENCE:
            raise Unknown(f"no computation for {self.case}/{name}")
        return INFERENCE[name](self)

    def reference_masks(self):
        masks = self.golden.reference_masks(self.case)
        return released.binarize(masks) if self.model.input.binarize else masks

    def upsampled_features(self, every):
        """Some channels of the upsampled features, which are never built as a whole: they are the
        numerators of the similarity with the unit vector of each channel."""
        maps, size = self.features.map, self.golden.canvas // 4
        cosines = similarity_of_upsampled(maps, maps[:, ::every], size)
        return cosines * upsampled_norm(maps, size)[:, None]

    def type_ids(self):
        """Which type embedding each visual token carries, int (n, n)."""
        visual = self.text_tokens[:, 1:] - self.output("inst_proj").flatten(0, 1)
        return torch.cdist(visual, self.head.inst_type_embed.weight).argmin(-1)

    def all_masks(self):
        """Logits of all mask tokens (n, tokens, 4g, 4g)."""
        upscaled = self.output("mask_decoder.output_upscaling")
        count = len(self.head.mask_decoder.output_hypernetworks_mlps)
        networks = (
            self.output(f"mask_decoder.output_hypernetworks_mlps.{i}") for i in range(count)
        )
        return torch.einsum("nkc,nchw->nkhw", torch.stack(list(networks), 1), upscaled)

    def on_canvas(self, size):
        """Logits on the canvas, cut to (h, w)."""
        return Frame(self.model.input.canvas, size, size).upsample(self.logits)

    def encoder_input(self):
        """What the backbone receives for target and reference; their padding is not ours."""
        images = []
        for which in ("target", "ref"):
            height, width = self.golden.size(self.case, which)
            pixels = self.golden.tensors[f"{self.case}/in/{which}_image"]
            images.append(pixels[:, :height, :width])
        self.model.encode_images(images)
        return self.model.backbone.seen


INFERENCE = {
    "pool_mask_soft": lambda r: center_samples(r.reference_masks(), r.head.grid),
    "pool_mask_bin": lambda r: pool_mask(
        r.reference_masks(), r.model.input.canvas, r.head.grid, center=r.model.input.released
    ),
    "inst_feat": lambda r: r.context.tensors["prototypes"],
    "inst_feats": lambda r: r.context.tensors["prototypes"],
    "prompt_feats": lambda r: r.head.prompt_proj(r.context.meta),
    "text_proj": lambda r: r.head.prompt_proj(
        r.model.contexts.texts.encoder.encode(r.golden.about["stats"][r.case]["encoder_prompts"][0])
    ),
    "sim_low": lambda r: r.model.propagated_mask(r.features, r.context)[0],
    "sim_full": lambda r: r.call("prompt_encoder.mask_downscaling").args[0],
    "points": lambda r: r.points,
    "point_labels": lambda r: r.labels,
    "text_tokens": lambda r: r.text_tokens,
    "inst_proj": lambda r: r.output("inst_proj"),
    "inst_type_ids": lambda r: r.type_ids(),
    "sparse": lambda r: r.sparse,
    "dense": lambda r: r.output("prompt_encoder.mask_downscaling"),
    "tokens": lambda r: r.tokens,
    "hs": lambda r: r.tokens_out,
    "src": lambda r: r.output("mask_decoder.transformer")[1],
    "low_res_masks_all": lambda r: r.all_masks(),
    "iou_all": lambda r: r.output("mask_decoder.iou_prediction_head"),
    "low_res_masks": lambda r: r.output("").logits,
    "iou": lambda r: r.output("").quality,
    "masks_full": lambda r: r.on_canvas((r.model.input.canvas, r.model.input.canvas)),
    "masks": lambda r: r.on_canvas(r.size),
    "neck": lambda r: r.output("neck"),
    "image_pe": lambda r: r.head.prompt_encoder.pe_layer.grid(r.head.grid, r.head.grid),
    "encoder_input": lambda r: r.encoder_input(),
}
OUTPUTS = ("low_res_masks", "iou", "masks")  # compared without autograd too
