"""The keys of SegIC itself, a part of ``keys.KEYS``; its module says how to read them."""

from .table import Key, Range, below, least, of, section, within

SHARE = within(0, 1)

SEGIC_KEYS = {
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
        CONTEXT=Key("", "file of a context that the model holds, for inputs without references"),
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
        ABSENT=Key(0.0, "predictor: what has a lower score is left out; 0: nothing is", SHARE),
    ),
    **section(
        "MODEL.SEGIC.TEST.REFINE",
        WALK=Key(
            0.0, "of a random walk over like cells, the share that goes on; 0: none", below(0, 1)
        ),
        RADIUS=Key(0, "of a guided filter, logits' cells (4 to the backbone's); 0: none", least(0)),
        SECOND_LOOK=Key(
            0.0, "what takes at most this share of a target is cut and seen again; 0: none", SHARE
        ),
    ),
    **section(
        "MODEL.SEGIC.REGIONS",  # of RegionMatchingHead
        WHITENING=Key("", 'statistics: "embedded", or of tools/compute_whitening.py; "": none'),
        CELLS=Key(240, "reference cells per shot, half background; 400 KB at most", least(6)),
        UNMARKED=Key(0.75, "of the thing's own likeness: what is so alike is no background", SHARE),
        BOXES=Key(True, "a reference's mask that is a filled box says where the thing is alone"),
        DEBIAS=Key(0, "positional directions left out of the features; 0: none", least(0)),
        PROTOTYPE=Key(True, "prototype × propagation counts"),
        BACKWARD=Key(False, "what is propagated is the nearest reference cell's share alone"),
        NEAREST=Key(20, "most similar foreground and background cells that count", least(0)),
        BACKGROUND=Key(0.8, "weight of the nearest background cells", least(0)),
        COMPETE=Key(True, "another entity's foreground cells are background"),
        CUT=Key(0.6, "of the average linkage of a target's cells; 0: no regions", within(0, 2)),
        POSITION=Key(0.3, "weight of distances in the linkage, of the longer side", least(0)),
        SMALL=Key(0.02, "share of its picture below which a thing is small: half of CUT", SHARE),
        RELATIVE=Key(0.3, "share of the best region's value that others lose", SHARE),
        AGGREGATE=Key(0.0, "weight of a region's cosine to the best region", least(0)),
        DECODER=Key(0.0, "weight of the decoder's probability; 0: not asked; 1: alone", SHARE),
        THRESHOLD=Key(0.03, "a region is foreground above it", within(-2, 2)),
        LEARNED=Key("", 'a network that judges regions: "embedded", or of tools/train_choice.py'),
        CALIBRATION=Key(
            (),
            "numbers of tools/calibrate.py, by which a score is the probability that the mask "
            "overlaps the thing by half; (): it is a cosine",
            Range(lambda value: len(value) in (0, 3), "three numbers, or none"),
        ),
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
        PARTS=Key(
            False, "what hangs together of a class is an object: for who never learnt objects"
        ),
    ),
}
