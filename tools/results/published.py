"""Published figures of other methods and of the paper, with their sources. None is ours."""

SEGIC = "SegIC's paper (ECCV 2024)"
COMPETITORS = "as quoted in SegIC's paper (ECCV 2024), not measured here"
UNCHECKED = "this method's figures are in the table that `python tools/results` prints"

# Table 1: name → (source, {column: figure}); mIoU of few-shot and semantic, J&F of DAVIS, G of YT18
TABLE_1 = {
    "Painter": (
        COMPETITORS,
        {"COCO-20i": 33.1, "FSS-1000": 61.7, "LVIS-92i": 10.5, "DAVIS-17": 34.6, "YT-VOS-18": 24.1},
    ),
    "SegGPT": (
        COMPETITORS,
        {"COCO-20i": 56.1, "FSS-1000": 85.6, "LVIS-92i": 18.6, "DAVIS-17": 75.6, "YT-VOS-18": 74.7},
    ),
    "PerSAM-F": (
        COMPETITORS,
        {"COCO-20i": 23.5, "FSS-1000": 75.6, "LVIS-92i": 12.3, "DAVIS-17": 71.9},
    ),
    "Matcher": (
        COMPETITORS,
        {"COCO-20i": 52.7, "FSS-1000": 87.0, "LVIS-92i": 33.0, "DAVIS-17": 79.5},
    ),
    **{name: (UNCHECKED, {}) for name in ("SINE", "DiffewS", "SANSA", "INSID3", "FoRIS")},
    "SegIC (DINOv2-L)": (
        SEGIC,
        {
            **{"COCO-20i": 76.1, "FSS-1000": 86.8, "LVIS-92i": 44.6, "DAVIS-17": 71.4},
            **{"YT-VOS-18": 62.7, "COCO#": 72.9, "ADE20K#": 55.5, "PC-459#": 23.9, "A-847#": 14.8},
        },
    ),
    "SegIC (DINOv2-G)": (
        SEGIC,
        {
            **{"COCO-20i": 74.5, "FSS-1000": 88.4, "LVIS-92i": 47.8, "DAVIS-17": 73.7},
            **{"YT-VOS-18": 65.4, "COCO#": 74.0, "ADE20K#": 59.0, "PC-459#": 24.0, "A-847#": 15.4},
        },
    ),
}

# Table 2: COCO-20i, trained without the classes of the fold that is tested; per fold and mean
MATCHER_FOLDS = "Matcher's published logs, 1-shot; their mean is also quoted in SegIC's paper"
TABLE_2 = {
    "Matcher": (
        MATCHER_FOLDS,
        {"fold 0": 52.66, "fold 1": 53.52, "fold 2": 52.58, "fold 3": 52.13, "mean": 52.7},
    ),
    **{name: (UNCHECKED, {}) for name in ("SINE", "DiffewS", "SANSA", "INSID3", "FoRIS")},
    "SegIC": (
        SEGIC,
        {"fold 0": 55.8, "fold 1": 54.7, "fold 2": 52.4, "fold 3": 51.4, "mean": 53.6},
    ),
    "SegIC‡": (
        SEGIC + "; ‡ trained on ADE20K, LVIS and FSS-1000 too, whose classes overlap the fold's",
        {"fold 0": 62.3, "fold 1": 62.5, "fold 2": 63.3, "fold 3": 60.9, "mean": 62.3},
    ),
}
