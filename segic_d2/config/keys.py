"""Every key that segic_d2 adds to a Detectron2 config: its default, its meaning, its range.

The defaults are the paper's. Where the paper and the released code differ, the line names both
values; ``released`` marks the value that reproduces the released weights.
"""

from detectron2.config import CfgNode

from .seggpt_keys import SEGGPT_KEYS
from .segic_keys import SEGIC_KEYS, SHARE
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
)

JITTER = Range(
    lambda value: len(value) == 4 and min(value) >= 0 and value[3] <= 0.5,
    "four numbers ≥ 0, the last (hue) at most 0.5",
)
ASCENDING = Range(
    lambda value: all(isinstance(x, int) for x in value) and list(value) == sorted({0, *value})[1:],
    "ascending whole numbers above 0",
)
VIEWS = Range(
    lambda value: 0 < len(value) == len({*value} & {"joint", "close"}), '"joint", "close", or both'
)

KEYS = {
    **section(
        "MODEL.BACKBONE",
        WEIGHTS=Key(
            "",
            'where its weights come from: "embedded" (the ViT-S of the demo), "timm" or '
            '"timm:TAG" (timm\'s hub), or a .safetensors/.pth/.pkl file, also as detectron2://… or '
            'https://…; "random" or "": none, but train_net.py refuses ""; Detectron2\'s own '
            "backbones take theirs from MODEL.WEIGHTS, but for SegIC",
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
        STRIDE=Key(0, "px, a power of two that its map is resampled to; 0: its own"),
        OUT_FEATURES=Key(
            ("feat",), 'the map of BLOCKS; or taps as maps of their own, ("block7", "block11")'
        ),
        FROZEN=Key(False, "also under other meta-architectures; SegIC freezes any backbone"),
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
            "pil",
            '"pil": 8 bits, antialiased; "float" (SegIC released): neither; "squash": bicubic onto '
            "the whole square, masks sampled",
            of("pil", "float", "squash"),
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
    **SEGIC_KEYS,
    **SEGGPT_KEYS,
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
            "any of one_shot, few_shot, semantic, coco_instances, lvis_instances, pck, video",
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
    **section(
        "TEST.VIDEO",
        MEMORY=Key(
            "first",
            'beside the given masks: "first" nothing, "fifo" recent shots, "mean" their running '
            'mean, "last" the last one (released), "clusters" parts',
            of("first", "fifo", "mean", "last", "clusters"),
        ),
        MEMORY_SIZE=Key(8, "shots of fifo, or parts of clusters, per object", least(1)),
        EVERY=Key(5, "frames between what fifo and clusters write", least(1)),
        GATE=Key(
            0.7, "written at this share of an object's own score; 0 (released): always", SHARE
        ),
        TRUST=Key(0.5, "IoU with its given mask below which memory stays; 0 (released): 0", SHARE),
        GIVEN_WEIGHT=Key(0.5, "share of the given shots in the propagated mask", SHARE),
        USE=Key(
            ("map",),
            'recent shots are for the "map", or (released) for "tokens", or both',
            each(of("map", "tokens")),
        ),
        VIEWS=Key(
            ("joint", "close"),
            "a given frame is seen cut about all its objects together, and each close up",
            VIEWS,
        ),
        MERGE=Key(
            "argmax",
            '"argmax" or "soft" aggregation: one object per pixel; "independent": overlapping',
            of("argmax", "soft", "independent"),
        ),
        ABSENT=Key(0.5, "not there below this share of an object's own score; 0: never", SHARE),
        WINDOW=Key(
            0.5,
            "margin around the expected box, of its longer side; 0 (released): no window",
            least(0),
        ),
        LOST=Key(10, "frames without an object after which its window is lifted", least(1)),
        CROSS_POINTS=Key(False, "points of others are negative ones; released: True"),
        FRAMES=Key(
            "all",
            'frames of data sets: "all", or those whose masks are "required" (released)',
            of("all", "required"),
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

    Detectron2's own keys stay as they are; configs/Base-SegIC.yaml sets those of SegIC. So does
    what a config already has: it may be called again, or after ``merge_from_file``.
    """
    add_keys(cfg, KEYS)


def check_config(cfg: CfgNode, *parts: str) -> None:
    """Refuse values out of their ranges in parts of a config, such as "MODEL" or "INPUT.CANVAS".

    Raises:
        ValueError: naming the key, the value and the range.
    """
    check_keys(cfg, KEYS, parts)
