"""The keys of SegGPT and Painter, a part of ``keys.KEYS``; its module says how to read them.

What the paper does not say has a default of ours, and its line says so.
"""

from .table import Key, above, each, least, of, section, within

SHARE = within(0, 1)

SEGGPT_KEYS = {
    **section(
        "MODEL.SEGGPT",
        TYPE_TOKENS=Key(True, "the network is told the task (SegGPT); False: Painter"),
        SIDE=Key(448, "px, of the square that its tables of positions are for", least(1)),
        PATCH=Key(16, "px, side of a patch", least(1)),
        WIDTH=Key(1024, "channels", least(1)),
        DEPTH=Key(24, "blocks", least(1)),
        HEADS=Key(16, "of attention; they divide WIDTH", least(1)),
        TAPS=Key((5, 11, 17, 23), "0-based blocks that the head sees", each(least(0))),
        MERGE=Key(2, "block after which pictures and colours are one stream", least(0)),
        DECODER=Key(64, "channels of the head", least(1)),
        POSITIONS=Key(14, "side of the table of absolute positions, patches", least(1)),
        DROP_PATH=Key(0.1, "stochastic depth of the last block", SHARE),
        ALIKE=Key(False, "untrained, patches attend to what looks like them; ours"),
        CONTEXT=Key("", "file of a context that the model holds, for inputs without references"),
        ENSEMBLE=Key(
            "feature",
            'several shots: "feature" averages attention over them (released), "spatial" tiles '
            "them into one prompt",
            of("feature", "spatial"),
        ),
        COLORS=Key(1, "entities per pass, by colours; 1: each by itself, white on black", least(1)),
        RESIZE=Key(
            "nearest",
            'what is painted comes to the target\'s size by "nearest" (released) or "bilinear"',
            of("nearest", "bilinear"),
        ),
        BATCH=Key(8, "canvases per pass, but all shots of a target", least(1)),
        LAYER_DECAY=Key(0.8, "of the rate of learning, block by block (Painter's)", above(0)),
    ),
    **section(
        "MODEL.SEGGPT.TRAIN",
        WHITE_PROB=Key(0.0, "one entity is white, as at inference, else random colours", SHARE),
        MIX_PROB=Key(0.5, "mix-context: up to four references are one prompt; ours", SHARE),
        MASKED=Key(0.5, "share of the patches of both squares that is hidden (Painter's)", SHARE),
        HALF_PROB=Key(0.1, "the target's colours are hidden instead, all (Painter's)", SHARE),
        COLOURED=Key(1.0, "weight of what is coloured, of what is black 1; ours", above(0)),
        LOSS=Key(
            "smoothl1",
            "of the colours; smoothl1 has β = 0.01",
            of("smoothl1", "l1", "l2", "l1l2"),
        ),
    ),
}
