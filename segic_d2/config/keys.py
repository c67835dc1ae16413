"""Every key that segic_d2 adds to a Detectron2 config, and how a config is found by name."""

from detectron2.config import CfgNode as CN

# SOLVER keys: the schedule in samples → Detectron2's key in iterations
IN_ITERATIONS = {
    "MAX_SAMPLES": "MAX_ITER",
    "STEPS_SAMPLES": "STEPS",
    "WARMUP_SAMPLES": "WARMUP_ITERS",
    "CHECKPOINT_SAMPLES": "CHECKPOINT_PERIOD",
}


def add_segic_config(cfg: CN) -> None:
    """Add segic_d2's keys, with the defaults of the paper, to a Detectron2 config in place.

    Where the paper and the released code differ, the comment names both values; ``released``
    marks the value that reproduces the released weights.
    """
    cfg.MODEL.META_ARCHITECTURE = "SegIC"
    cfg.MODEL.SEM_SEG_HEAD.NAME = "InContextMaskHead"

    # ---- frozen backbone -----------------------------------------------------------------
    # where the frozen weights come from: "" (random), "embedded" (the ViT-S of the demo),
    # "timm" or "timm:TAG" (timm's hub), or a .safetensors/.pth/.pkl file
    cfg.MODEL.BACKBONE.WEIGHTS = ""
    cfg.MODEL.TIMM = CN()
    cfg.MODEL.TIMM.NAME = "vit_large_patch14_dinov2"  # any name of timm.list_models()
    cfg.MODEL.TIMM.BLOCKS = (-1,)  # 0-based blocks (ViT) or stages (CNN) to tap, concatenated
    cfg.MODEL.TIMM.NORM = True  # apply the final norm to every tapped ViT block
    cfg.MODEL.TIMM.POS_EMBED = "timm"  # resampled as by "timm" or by "dinov2" (released)
    cfg.MODEL.DIFFUSION = CN()  # build_diffusion_backbone; needs the package diffusers
    cfg.MODEL.DIFFUSION.NAME = "stabilityai/stable-diffusion-2-1"  # on its hub, or a local folder
    cfg.MODEL.DIFFUSION.TIMESTEP = 261  # noise level of the one denoising step, of 1000
    cfg.MODEL.DIFFUSION.UP_BLOCK = 1  # 0-based block of the U-Net's way up to tap
    cfg.MODEL.DIFFUSION.PROMPT = ""  # text given to the U-Net; released: each image's own text
    cfg.MODEL.DIFFUSION.SEED = 0  # of the noise, the same for every image; released: at random
    cfg.MODEL.DIFFUSION.SAMPLE_LATENT = False  # True (released): sample, else mean of the latent

    # ---- model ---------------------------------------------------------------------------
    cfg.INPUT.FORMAT = "RGB"  # channel order that the backbone expects; episodes are RGB
    cfg.INPUT.CANVAS = 896  # px, side of the square input; a multiple of the backbone's stride
    cfg.INPUT.RESIZE = "pil"  # "pil": 8 bits, antialiased; "float" (released): neither

    m = cfg.MODEL.SEGIC = CN()
    m.IN_FEATURE = "feat"  # which output of the backbone to use ("res4", … for a ResNet)
    m.DENSE = True  # geometric instruction: the propagated mask as a dense embedding
    m.BACKGROUND = False  # geometric instruction: also the similarity to what is around the masks
    m.POINT = True  # geometric instruction: the best points of the propagated mask
    m.VISUAL = True  # visual instruction: one token per prototype
    m.META = True  # meta instruction: one text token

    m.SIMILARITY = CN()
    m.SIMILARITY.PROTOTYPE = "mean_unit"  # "mean_unit" (Eq. 1-2) or "pooled" (released)
    m.SIMILARITY.INTERPOLATE = "map"  # "map" (Eq. 1) or "features" (released)
    m.SIMILARITY.CENTER = "none"  # "fixed": the backbone's mean feature is left out of the cosines
    m.SIMILARITY.MEAN = ""  # .safetensors file of that mean; "": of the weights, or of training
    m.SIMILARITY.MEAN_IMAGES = 500  # pictures of training that it is the mean of
    m.SIMILARITY.GROUPS = 1  # equal groups of channels (tapped blocks) with a cosine each
    m.SIMILARITY.PROPAGATED = 0  # the propagated mask is the mean of so many first groups; 0: all
    m.SIMILARITY.RELATIVE = False  # also the propagated mask in deviations from its target's mean
    m.SIMILARITY.TAU = 1.0  # the similarity is divided by this
    m.SIMILARITY.EPS = 1e-8  # lower bound of the norms in the cosine
    m.MASK_POOLING = "area"  # "area": soft cell weights, nothing vanishes; "center": released
    m.BINARIZE_MASKS = False  # reference masks thresholded before they are pooled; released: True
    m.EMPTY_MASK = "no_shot"  # a reference mask that vanished: "no_shot", or "zero" (released)

    m.POINTS = CN()
    m.POINTS.NUM = 1  # k, points per entity
    m.POINTS.MIN_DISTANCE = 1.0  # grid cells between the centres of two points
    m.POINTS.ARGMAX = "grid"  # over cells ("grid") or over canvas pixels ("canvas", released)
    m.POINTS.IN_PADDING = False  # True (released): the arg-max may fall into the padding

    m.CROSS_ENTITY = CN()
    m.CROSS_ENTITY.ENABLED = True  # visual tokens of the other entities as negatives
    m.CROSS_ENTITY.TRAIN_PROB = 0.5  # probability per training image; above 0 on at inference
    m.CROSS_ENTITY.TYPE_ALWAYS = True  # own-type embedding also without crossing; released: False
    m.BOX_PROMPT_PROB = 0.0  # probability < 1 of the true box in training; released: 0.5
    m.MIXSTYLE = 0.0  # α of MixStyle in training: statistics of the reference's picture; 0: off

    m.REVERSION = CN()  # context reversion: the prediction as reference, the references as targets
    m.REVERSION.PROB = 1.0  # probability per training episode
    m.REVERSION.EMPTY = "skip"  # entities without a prediction: "skip", or "zero" (released)
    m.REVERSION.CONTEXT = "only"  # several shots: the prediction "only", or "join" the other shots
    m.REVERSION.IN_PADDING = False  # True (released): predictions in the padding count

    m.TEXT = CN()
    m.TEXT.NAME = "open_clip"  # TEXT_ENCODER registry: open_clip, table, none
    m.TEXT.DIM = 768  # length of a text vector
    m.TEXT.MODEL = "ViT-L-14-quickgelu"  # open_clip model name
    m.TEXT.WEIGHTS = "openai"  # open_clip pretrained tag or a file
    m.TEXT.TABLE = ""  # .safetensors file of precomputed vectors, for "table"
    m.TEXT.SEMANTIC_TEMPLATE = "a photo of a {}"  # text of a named entity, semantic task
    m.TEXT.INSTANCE_TEXT = "please segment the instances"  # text of every instance episode

    m.DECODER = CN()
    m.DECODER.WIDTH = 256  # channels of tokens and image embedding
    m.DECODER.DEPTH = 2  # two-way layers
    m.DECODER.HEADS = 8  # attention heads
    m.DECODER.MLP = 2048  # hidden width of the token MLP
    m.DECODER.ATTENTION_DOWNSAMPLE = 2  # cross-attention width is WIDTH over this
    m.DECODER.MASK_TOKENS = 4  # learned mask tokens (one is used); SAM's layout
    m.DECODER.CHECKPOINT = False  # less memory: computed again for the backward pass
    m.DECODER.MASK_STRIDES = ()  # strides of the mask encoder's convolutions; (): by the stride

    m.LOSS = CN()
    m.LOSS.NUM_POINTS = 12544  # points per mask
    m.LOSS.OVERSAMPLE_RATIO = 3.0  # candidates per point
    m.LOSS.IMPORTANCE_RATIO = 0.75  # share of the points taken by uncertainty
    m.LOSS.BCE_WEIGHT = 1.0
    m.LOSS.DICE_WEIGHT = 1.0
    m.LOSS.QUALITY_WEIGHT = 1.0  # of the quality token's estimate of the IoU; released: 0
    m.LOSS.NUM_MASKS = "world"  # mean over the masks of all processes; released: "process"

    m.ENTITY_CHUNK = 0  # entities decoded at once at inference; 0: what the caches hold
    m.IMAGE_CHUNK = 8  # images encoded at once
    m.FEATURE_MEMORY = 0  # MB of frozen features kept in memory, found by their pixels; 0: none
    m.TEST = CN()
    m.TEST.THRESHOLD = 0.0  # a pixel is foreground where its logit is above this
    # "mask": mean foreground probability; "quality": the estimated IoU (trained);
    # "quality_similarity": that times the highest similarity in the target
    m.TEST.SCORE = "mask"
    m.TEST.MIN_SCORE = 0.0  # an entity with a lower score gets an empty mask; 0: never
    m.TEST.REFINE = CN()  # masks are refined by what the target shows, see refinement.py
    m.TEST.REFINE.WALK = 0.0  # of a random walk over like cells, the share that goes on; 0: none
    m.TEST.REFINE.WALK_POWER = 8.0  # of the cells' similarity
    m.TEST.REFINE.RADIUS = 0  # of a guided filter, logits' cells (4 to the backbone's); 0: none
    m.TEST.REFINE.EPS = 0.005  # variance of colours in [0, 1] below which a window has no edge
    m.TEST.OUTPUTS = ("masks",)  # any of masks, sem_seg, instances, propagated_mask

    m.INSTANCES = CN()  # one-shot instances: peaks of the propagated mask as prompts
    m.INSTANCES.PER_CLASS = 10  # prompts per class and target, at most
    m.INSTANCES.PER_IMAGE = 1000  # prompts per target, the most similar; bounds memory; 0: all
    m.INSTANCES.MIN_DISTANCE = 2.0  # grid cells between the centres of two peaks of a class
    m.INSTANCES.MIN_SIMILARITY = 0.0  # of a peak: mean cosine to the reference's features, over TAU
    m.INSTANCES.NMS_IOU = 0.5  # of two masks of a class, above which the worse one is dropped

    # ---- data ----------------------------------------------------------------------------
    cfg.DATASETS.EPISODE_MAPPERS = ()  # one name per DATASETS.TRAIN; (): all "semantic"
    cfg.DATASETS.DRAW = ()  # "class" or "image" per DATASETS.TRAIN; (): INPUT.SEMANTIC.DRAW for all
    cfg.DATASETS.WEIGHTS = ()  # share of the samples per DATASETS.TRAIN; (): uniform
    cfg.DATASETS.REFERENCE = ()  # where sem_seg/coco evaluation finds references; (): TRAIN
    cfg.DATASETS.SINGLE_IMAGE_CLASSES = "error"  # or "skip" them, with a line in the log

    cfg.INPUT.SEMANTIC = CN()
    cfg.INPUT.SEMANTIC.DRAW = "class"  # "class": class, then image; "image": image, then class
    cfg.INPUT.SEMANTIC.MAX_ENTITIES = 1  # up to this many classes of the target per episode
    cfg.INPUT.SEMANTIC.MAX_SHOTS = 1  # 1 to this many references per entity, drawn per episode
    cfg.INPUT.SEMANTIC.SCALE = (0.1, 2.0)  # large-scale jitter, of CANVAS
    cfg.INPUT.SEMANTIC.FLIP_PROB = 0.5
    cfg.INPUT.SEMANTIC.SQUARE_REFERENCE = False  # True (released): jitter distorts references
    cfg.INPUT.INSTANCE = CN()
    cfg.INPUT.INSTANCE.MAX_MASKS = 10  # instances per episode; released: 19 with random CAP
    cfg.INPUT.INSTANCE.CAP = "fixed"  # "fixed", or "random": uniform in 0…MAX_MASKS (released)
    cfg.INPUT.INSTANCE.AREA = (0.3, 1.0)  # resized crop, share of the image's area
    cfg.INPUT.INSTANCE.ASPECT = (0.75, 4 / 3)  # resized crop, aspect ratio
    cfg.INPUT.INSTANCE.FLIP_PROB = 0.1
    cfg.INPUT.INSTANCE.JITTER_PROB = 0.2
    cfg.INPUT.INSTANCE.JITTER = (0.4, 0.4, 0.2, 0.1)  # brightness, contrast, saturation, hue
    cfg.INPUT.MAX_REDRAWS = 10  # augmentations drawn again when the object left the frame
    cfg.INPUT.TEXT_KEEP_PROB = 0.75  # class name kept in training, else the empty text
    cfg.INPUT.ABSENT_PROB = 0.0  # semantic training episodes whose target lacks an entity

    cfg.INPUT.REFERENCE_ZOOM = 0.0  # test: a cut whose side the masks take so much of; 0: whole
    cfg.INPUT.VIEWS_POOL = 0  # different views per image that training draws from; 0: unlimited
    cfg.INPUT.FEATURE_CACHE = CN()  # frozen features of views that recur, on disk
    cfg.INPUT.FEATURE_CACHE.DIR = ""  # folder, may be shared by processes and runs; "": no cache
    cfg.INPUT.FEATURE_CACHE.MAX_GB = 100.0  # 10⁹ bytes, bound on it; the least recently used leave
    cfg.INPUT.FEATURE_CACHE.DTYPE = "float16"  # or "float32"; features are rounded to it

    # ---- training and evaluation -----------------------------------------------------------
    cfg.SEED = 42  # episodes, augmentations and sampled loss points depend on it alone
    cfg.SOLVER.OPTIMIZER = "ADAMW"
    # the schedule in samples (targets), whatever the batch size; paper: 12 epochs of 160k samples
    cfg.SOLVER.MAX_SAMPLES = 0  # samples of the whole run; 0: SOLVER.MAX_ITER
    cfg.SOLVER.STEPS_SAMPLES = ()  # samples before each drop by SOLVER.GAMMA; (): SOLVER.STEPS
    cfg.SOLVER.WARMUP_SAMPLES = 0  # samples of the warm-up; 0: SOLVER.WARMUP_ITERS
    cfg.SOLVER.CHECKPOINT_SAMPLES = 0  # samples between checkpoints; 0: SOLVER.CHECKPOINT_PERIOD
    cfg.SOLVER.AMP.DTYPE = "bf16"  # of SOLVER.AMP.ENABLED: "bf16", or "fp16" on a GPU; paper: fp32
    cfg.MODEL_EMA = CN()
    cfg.MODEL_EMA.ENABLED = False  # model_final has the weights' exponential moving average
    cfg.MODEL_EMA.DECAY = 0.999  # per iteration; early on less, (1 + n) / (10 + n) at iteration n
    # any of one_shot, few_shot, sem_seg, semantic, coco, coco_instances, lvis_instances, pck
    cfg.TEST.EVALUATORS = ("one_shot",)
    cfg.TEST.EPISODES = 1000  # one-shot episodes per dataset
    cfg.TEST.SHOTS = 1  # references per entity at test
    cfg.TEST.SEED = 0  # test episodes depend on it alone
    cfg.TEST.BATCH_SIZE = 1  # targets per process
    cfg.TEST.MASK_SIZE = "original"  # few_shot scores the target's own pixels, or the "network"'s
    cfg.TEST.FIRST_EPISODES = 0  # few_shot: only the first so many of each benchmark; 0: all
    cfg.TEST.SEEN = "auto"  # test classes of training: "auto", or "seen", "unseen", "mixed"
    cfg.TEST.SAVE_PERIOD = 300.0  # s between saves of an evaluation's progress; 0: never
    cfg.TEST.DAMAGED = "error"  # damaged data are named before the run; "skip": left out, counted
    cfg.TEST.VERIFY = "exists"  # before the run: look for its files; "full": read them all; "none"
    cfg.TEST.CONTEXT_FILE = ""  # of "semantic": made, then reused; "": one in the output folder
    cfg.TEST.NO_CLASS = "none"  # pixels below the threshold: "none" (background), or "best" class
