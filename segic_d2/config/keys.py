"""Every key that segic_d2 adds to a Detectron2 config: its default, its meaning, its range.

The defaults are the paper's. Where the paper and the released code differ, the line names both
values; ``released`` marks the value that reproduces the released weights.
"""

from detectron2.config import CfgNode

from .table import (
    Key,
    Range,
    above,
    add_keys,
    below,
    check_keys,
    each,
    interval,
    least,
    of,
    section,
    within,
)

SHARE = within(0, 1)
JITTER = Range(
    lambda value: len(value) == 4 and min(value) >= 0 and value[3] <= 0.5,
    "four numbers ≥ 0, the last (hue) at most 0.5",
)
ASCENDING = Range(
    lambda value: all(isinstance(x, int) for x in value) and list(value) == sorted({0, *value})[1:],
    "ascending whole numbers above 0",
)

KEYS = {
    **section(
        "MODEL.BACKBONE",
        WEIGHTS=Key(
            "",
            'where the frozen weights come from: "" (random), "embedded" (the ViT-S of the '
            'demo), "timm" or "timm:TAG" (timm\'s hub), or a .safetensors/.pth/.pkl file',
        ),
    ),
    **section(
        "MODEL.TIMM",
        NAME=Key("vit_large_patch14_dinov2", "any name of timm.list_models()"),
        BLOCKS=Key((-1,), "0-based blocks (ViT) or stages (CNN) to tap, concatenated"),
        NORM=Key(True, "apply the final norm to every tapped ViT block"),
        POS_EMBED=Key(
            "timm", 'resampled as by "timm" or by "dinov2" (released)', of("timm", "dinov2")
        ),
    ),
    **section(
        "MODEL.DIFFUSION",
        NAME=Key("stabilityai/stable-diffusion-2-1", "on its hub, or a local folder"),
        TIMESTEP=Key(261, "noise level of the one denoising step, of 1000", least(0)),
        PROMPT=Key("", "text given to the U-Net; released: each image's own text"),
    ),
    **section(
        "INPUT",
        CANVAS=Key(
            896, "px, side of the square input; a multiple of the backbone's stride", least(1)
        ),
        RESIZE=Key(
            "pil", '"pil": 8 bits, antialiased; "float" (released): neither', of("pil", "float")
        ),
        MAX_REDRAWS=Key(10, "augmentations drawn again when the object left the frame", least(0)),
        TEXT_KEEP_PROB=Key(0.75, "class name kept in training, else the empty text", SHARE),
        ABSENT_PROB=Key(0.0, "semantic training episodes whose target lacks an entity", SHARE),
        REFERENCE_ZOOM=Key(
            0.0, "test: a cut whose side the masks take so much of; 0: whole", SHARE
        ),
        REFERENCE_WHOLE=Key(False, "test: the whole picture of a reference comes with its cut"),
        MULTIPLE=Key(
            0, "test: px; sides are multiples of it, and nothing is padded; 0: padded", least(0)
        ),
        VIEWS_POOL=Key(
            0, "different views per image that training draws from; 0: unlimited", least(0)
        ),
    ),
    **section(
        "MODEL.SEGIC",
        IN_FEATURE=Key("feat", 'which output of the backbone to use ("res4", … for a ResNet)'),
        DENSE=Key(True, "geometric instruction: the propagated mask as a dense embedding"),
        BACKGROUND=Key(
            False, "geometric instruction: also the similarity to what is around the masks"
        ),
        POINT=Key(True, "geometric instruction: the best points of the propagated mask"),
        VISUAL=Key(True, "visual instruction: one token per prototype"),
        META=Key(True, "meta instruction: one text token"),
        RELEASED=Key(
            False, "the rules of the released code in place of the paper's, see released.py"
        ),
        BINARIZE_MASKS=Key(
            False, "reference masks thresholded before they are pooled; released: True"
        ),
        BOX_PROMPT_PROB=Key(
            0.0, "probability < 1 of the true box in training; released: 0.5", below(0, 1)
        ),
        MIXSTYLE=Key(
            0.0,
            "α of MixStyle in training: statistics of the reference's picture; 0: off",
            least(0),
        ),
        ENTITY_CHUNK=Key(
            0, "entities decoded at once at inference; 0: what the caches hold", least(0)
        ),
        IMAGE_CHUNK=Key(8, "images encoded at once", least(1)),
        FEATURE_MEMORY=Key(
            0, "MB of frozen features kept in memory, found by their pixels; 0: none", least(0)
        ),
    ),
    **section(
        "MODEL.SEGIC.SIMILARITY",
        CENTER=Key(
            "none",
            '"fixed": the backbone\'s mean feature is left out of the cosines',
            of("none", "fixed"),
        ),
        MEAN=Key("", '.safetensors file of that mean; "": of the weights, or of training'),
        MEAN_IMAGES=Key(500, "pictures of training that it is the mean of", least(1)),
        GROUPS=Key(1, "equal groups of channels (tapped blocks) with a cosine each", least(1)),
        PROPAGATED=Key(
            0, "the propagated mask is the mean of so many first groups; 0: all", least(0)
        ),
        RELATIVE=Key(False, "also the propagated mask in deviations from its target's mean"),
    ),
    **section("MODEL.SEGIC.POINTS", NUM=Key(1, "k, points per entity", least(1))),
    **section(
        "MODEL.SEGIC.CROSS_ENTITY",
        ENABLED=Key(True, "visual tokens of the other entities as negatives"),
        TRAIN_PROB=Key(0.5, "probability per training image; above 0 on at inference", SHARE),
    ),
    **section(
        "MODEL.SEGIC.REVERSION",
        PROB=Key(1.0, "probability per training episode", SHARE),
        CONTEXT=Key(
            "only",
            'several shots: the prediction "only", or "join" the other shots',
            of("only", "join"),
        ),
    ),
    **section(
        "MODEL.SEGIC.TEXT",
        NAME=Key("open_clip", "TEXT_ENCODER registry: open_clip, table, none"),
        DIM=Key(768, "length of a text vector", least(1)),
        MODEL=Key("ViT-L-14-quickgelu", "open_clip model name"),
        WEIGHTS=Key("openai", "open_clip pretrained tag or a file"),
        TABLE=Key("", '.safetensors file of precomputed vectors, for "table"'),
        SEMANTIC_TEMPLATE=Key("a photo of a {}", "text of a named entity, semantic task"),
        INSTANCE_TEXT=Key("please segment the instances", "text of every instance episode"),
    ),
    **section(
        "MODEL.SEGIC.DECODER",
        WIDTH=Key(256, "channels of tokens and image embedding", least(8)),
        HEADS=Key(8, "attention heads", least(1)),
        MLP=Key(2048, "hidden width of the token MLP", least(1)),
        CHECKPOINT=Key(False, "less memory: computed again for the backward pass"),
    ),
    **section(
        "MODEL.SEGIC.LOSS",
        NUM_POINTS=Key(12544, "points per mask", least(1)),
        BCE_WEIGHT=Key(1.0, "of the binary cross-entropy", least(0)),
        DICE_WEIGHT=Key(1.0, "of the Dice loss", least(0)),
        QUALITY_WEIGHT=Key(
            1.0, "of the quality token's estimate of the IoU; released: 0", least(0)
        ),
    ),
    **section(
        "MODEL.SEGIC.TEST",
        THRESHOLD=Key(0.0, "a pixel is foreground where its logit is above this"),
        SCORE=Key(
            "mask",
            '"mask": mean foreground probability; "quality": the estimated IoU (trained); '
            '"quality_similarity": that times the highest similarity in the target',
            of("mask", "quality", "quality_similarity"),
        ),
        MIN_SCORE=Key(0.0, "an entity with a lower score gets an empty mask; 0: never", SHARE),
    ),
    **section(
        "MODEL.SEGIC.TEST.REFINE",
        WALK=Key(
            0.0, "of a random walk over like cells, the share that goes on; 0: none", below(0, 1)
        ),
        RADIUS=Key(0, "of a guided filter, logits' cells (4 to the backbone's); 0: none", least(0)),
    ),
    **section(
        "MODEL.SEGIC.REGIONS",  # of RegionMatchingHead
        WHITENING=Key("", 'statistics: "embedded", or of tools/compute_whitening.py; "": none'),
        CELLS=Key(240, "reference cells per shot, half background; 400 KB at most", least(6)),
        PROTOTYPE=Key(True, "prototype × propagation counts"),
        NEAREST=Key(20, "most similar foreground and background cells that count", least(0)),
        BACKGROUND=Key(0.8, "weight of the nearest background cells", least(0)),
        COMPETE=Key(True, "another entity's foreground cells are background"),
        CUT=Key(0.6, "of the average linkage of a target's cells; 0: no regions", within(0, 2)),
        POSITION=Key(0.3, "weight of distances in the linkage, of the longer side", least(0)),
        SMALL=Key(0.02, "share of its picture below which a thing is small: half of CUT", SHARE),
        RELATIVE=Key(0.3, "share of the best region's value that others lose", SHARE),
        DECODER=Key(0.0, "weight of the decoder's probability; 0: it is not asked", SHARE),
        THRESHOLD=Key(0.03, "a region is foreground above it", within(-2, 2)),
    ),
    **section(
        "MODEL.SEGIC.INSTANCES",
        PER_CLASS=Key(10, "prompts per class and target, at most", least(1)),
        PER_IMAGE=Key(
            1000, "prompts per target, the most similar; bounds memory; 0: all", least(0)
        ),
        MIN_SIMILARITY=Key(
            0.0, "of a peak: mean cosine to the reference's features", within(-1, 1)
        ),
        NMS_IOU=Key(0.5, "of two masks of a class, above which the worse one is dropped", SHARE),
    ),
    **section(
        "DATASETS",
        EPISODE_MAPPERS=Key((), 'one name per DATASETS.TRAIN; (): all "semantic"'),
        DRAW=Key(
            (),
            '"class" or "image" per DATASETS.TRAIN; (): INPUT.SEMANTIC.DRAW for all',
            each(of("class", "image")),
        ),
        WEIGHTS=Key((), "share of the samples per DATASETS.TRAIN; (): uniform", each(least(0))),
        REFERENCE=Key((), "where semantic and instance evaluation find references; (): TRAIN"),
        SINGLE_IMAGE_CLASSES=Key(
            "error", 'or "skip" them, with a line in the log', of("error", "skip")
        ),
    ),
    **section(
        "INPUT.SEMANTIC",
        DRAW=Key(
            "class", '"class": class, then image; "image": image, then class', of("class", "image")
        ),
        MAX_ENTITIES=Key(1, "up to this many classes of the target per episode", least(1)),
        MAX_SHOTS=Key(1, "1 to this many references per entity, drawn per episode", least(1)),
        SCALE=Key((0.1, 2.0), "large-scale jitter, of CANVAS", interval()),
        FLIP_PROB=Key(0.5, "probability of a horizontal flip", SHARE),
        SQUARE_REFERENCE=Key(False, "True (released): jitter distorts references"),
    ),
    **section(
        "INPUT.INSTANCE",
        MAX_MASKS=Key(10, "instances per episode; released: 19 with random CAP", least(1)),
        CAP=Key(
            "fixed",
            '"fixed", or "random": uniform in 0…MAX_MASKS (released)',
            of("fixed", "random"),
        ),
        AREA=Key((0.3, 1.0), "resized crop, share of the image's area", interval(1)),
        FLIP_PROB=Key(0.1, "probability of a horizontal flip", SHARE),
        JITTER_PROB=Key(0.2, "probability of a change of colours", SHARE),
        JITTER=Key((0.4, 0.4, 0.2, 0.1), "brightness, contrast, saturation, hue", JITTER),
    ),
    **section(
        "INPUT.FEATURE_CACHE",
        DIR=Key("", 'folder, may be shared by processes and runs; "": no cache'),
        MAX_GB=Key(100.0, "10⁹ bytes, bound on it; the least recently used leave", above(0)),
        DTYPE=Key("float16", 'or "float32"; features are rounded to it', of("float16", "float32")),
    ),
    **section(
        "SOLVER",
        OPTIMIZER=Key("SGD", "of what is trained; the paper's is ADAMW", of("SGD", "ADAMW")),
        MAX_SAMPLES=Key(0, "samples of the whole run; 0: SOLVER.MAX_ITER", least(0)),
        STEPS_SAMPLES=Key(
            (), "samples before each drop by SOLVER.GAMMA; (): SOLVER.STEPS", ASCENDING
        ),
        WARMUP_SAMPLES=Key(0, "samples of the warm-up; 0: SOLVER.WARMUP_ITERS", least(0)),
        CHECKPOINT_SAMPLES=Key(
            0, "samples between checkpoints; 0: SOLVER.CHECKPOINT_PERIOD", least(0)
        ),
    ),
    **section(
        "SOLVER.AMP",
        DTYPE=Key(
            "bf16",
            'of SOLVER.AMP.ENABLED: "bf16", or "fp16" on a GPU; paper: fp32',
            of("bf16", "fp16"),
        ),
    ),
    **section(
        "MODEL_EMA",
        ENABLED=Key(False, "model_final has the weights' exponential moving average"),
        DECAY=Key(
            0.999, "per iteration; early on less, (1 + n) / (10 + n) at iteration n", below(0, 1)
        ),
    ),
    **section(
        "TEST",
        EVALUATORS=Key(
            ("one_shot",),
            "any of one_shot, few_shot, semantic, coco_instances, lvis_instances, pck",
        ),
        EPISODES=Key(1000, "one-shot episodes per dataset", least(1)),
        SHOTS=Key(1, "references per entity at test", least(1)),
        SEED=Key(0, "test episodes depend on it alone", least(0)),
        BATCH_SIZE=Key(1, "targets per process", least(1)),
        MASK_SIZE=Key(
            "original",
            "few_shot scores the target's own pixels, or the \"network\"'s",
            of("original", "network"),
        ),
        FIRST_EPISODES=Key(
            0, "few_shot: only the first so many of each benchmark; 0: all", least(0)
        ),
        SEEN=Key(
            "auto",
            'test classes of training: "auto", or "seen", "unseen", "mixed"',
            of("auto", "seen", "unseen", "mixed"),
        ),
        SAVE_PERIOD=Key(300.0, "s between saves of an evaluation's progress; 0: never", least(0)),
        DAMAGED=Key(
            "error",
            'damaged data are named before the run; "skip": left out, counted',
            of("error", "skip"),
        ),
        VERIFY=Key(
            "exists",
            'before the run: look for its files; "full": read them all; "none"',
            of("exists", "full", "none"),
        ),
        CONTEXT_FILE=Key("", 'of "semantic": made, then reused; "": one in the output folder'),
        NO_CLASS=Key(
            "none",
            'pixels below the threshold: "none" (background), or "best" class',
            of("none", "best"),
        ),
    ),
}

# SOLVER keys: the schedule in samples → Detectron2's key in iterations
IN_ITERATIONS = {
    "MAX_SAMPLES": "MAX_ITER",
    "STEPS_SAMPLES": "STEPS",
    "WARMUP_SAMPLES": "WARMUP_ITERS",
    "CHECKPOINT_SAMPLES": "CHECKPOINT_PERIOD",
}


def add_segic_config(cfg: CfgNode) -> None:
    """Add segic_d2's keys, with the defaults of the paper, to a Detectron2 config in place.

    Detectron2's own keys stay as they are; configs/Base-SegIC.yaml sets those of SegIC.
    """
    add_keys(cfg, KEYS)


def check_config(cfg: CfgNode, *parts: str) -> None:
    """Refuse values out of their ranges in parts of a config, such as "MODEL" or "INPUT.CANVAS".

    Raises:
        ValueError: naming the key, the value and the range.
    """
    check_keys(cfg, KEYS, parts)
