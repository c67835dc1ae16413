"""Published figures of other methods, and of SegIC's paper, for the benchmarks of configs/eval.

None is ours. A figure stands as its source has it; an empty cell is no figure that was found.
"""

# column → (benchmark or data set of results.json, metrics in order of preference, folds, config)
BENCHMARKS = {
    "COCO-20i": ("coco20i", ("mIoU",), 4, "coco20i"),
    "LVIS-92i": ("lvis92i", ("mIoU",), 10, "lvis92i"),
    "FSS-1000": ("fss1000", ("mIoU",), 1, "fss1000"),
    "PASCAL-5i": ("pascal5i", ("mIoU",), 4, "pascal5i"),
    "PASCAL-Part": ("pascal_part", ("mIoU",), 4, "pascal_part"),
    "PACO-Part": ("paco_part", ("mIoU",), 4, "paco_part"),
    "SPair-71k": ("spair71k_test", ("PCK@0.1_image",), 1, "spair71k"),
    "COCO#": ("sem_seg-coco", ("mIoU_present",), 1, "coco_semantic"),
    "ADE20K#": ("sem_seg-ade20k", ("mIoU_present",), 1, "ade20k150"),
    "PC-459#": ("sem_seg-pc459", ("mIoU_present",), 1, "pc459"),
    "A-847#": ("sem_seg-a847", ("mIoU_present",), 1, "a847"),
    "COCO instances": ("coco_instances", ("AP",), 1, "coco_instances"),
    "LVIS instances": ("lvis_instances", ("AP",), 1, "lvis_instances"),
    "DAVIS-16": ("davis16_val", ("J&F_Mean",), 1, "davis16"),
    "DAVIS-17": ("davis17_val", ("J&F_Mean",), 1, "davis17"),
    "YT-VOS-18": ("ytvos18_valid", ("G",), 1, "ytvos18"),
    "YT-VOS-19": ("ytvos19_valid", ("G",), 1, "ytvos19"),
    "MOSE": ("mose_valid", ("J&F_Mean",), 1, "mose"),
    "LVOS": ("lvos_valid", ("J&F",), 1, "lvos"),
}

SOURCES = {
    "segic": "SegIC's paper (ECCV 2024)",
    "seggpt": "SegGPT's paper (ICCV 2023), tables 1, 2 and 3",
    "sansa": "SANSA's paper (NeurIPS 2025), table 2",
    "diffews": "DiffewS's paper (NeurIPS 2024), table 1",
    "foris": "FoRIS's paper (arXiv 2609.03384), tables 1 and 8",
    "rebase": "REBASE's paper (2026), table 1",
    "matcher": "Matcher's paper (ICLR 2024)",
    "persam": "PerSAM's figures as later papers' tables quote them",
    "second": "a page that quotes them; its source was not read",
    "insid3": "INSID3's repository; with DINOv3-B, α 0.1",
}

# (method, what it was trained on with masks, {column: (1-shot, 5-shot or None, source), …})
PEERS = (
    (
        "PerSAM (SAM-H)",
        "nothing more",
        {
            "COCO-20i": (23.0, None, "persam"),
            "LVIS-92i": (11.5, None, "persam"),
            "FSS-1000": (71.2, None, "persam"),
            "PASCAL-Part": (32.5, None, "persam"),
            "PACO-Part": (22.5, None, "persam"),
        },
    ),
    (
        "PerSAM-F (SAM-H)",
        "the reference",
        {
            "COCO-20i": (23.5, None, "persam"),
            "LVIS-92i": (18.4, None, "diffews"),
            "FSS-1000": (75.6, None, "segic"),
            "DAVIS-17": (76.1, None, "second"),
        },
    ),
    (
        "Matcher (DINOv2-L, SAM-H)",
        "nothing more",
        {
            "COCO-20i": (52.7, 60.7, "matcher"),
            "LVIS-92i": (33.0, 40.0, "matcher"),
            "FSS-1000": (87.0, 89.6, "matcher"),
            "PASCAL-5i": (68.1, 74.0, "matcher"),
            "PASCAL-Part": (42.9, 45.8, "matcher"),
            "PACO-Part": (34.7, 33.6, "matcher"),
            "DAVIS-17": (79.5, None, "segic"),
        },
    ),
    (
        "INSID3 (DINOv3-L)",
        "nothing",
        {
            "COCO-20i": (57.6, 65.1, "foris"),
            "LVIS-92i": (41.8, 47.2, "foris"),
            "FSS-1000": (83.7, None, "rebase"),
            "PASCAL-Part": (50.5, 57.1, "foris"),
            "PACO-Part": (38.7, 46.8, "foris"),
            "SPair-71k": (52.6, None, "insid3"),
        },
    ),
    (
        "FoRIS (DINOv3-L)",
        "nothing",
        {
            "COCO-20i": (60.9, 68.4, "foris"),
            "LVIS-92i": (42.8, 51.0, "foris"),
            "PASCAL-Part": (55.8, 63.3, "foris"),
            "PACO-Part": (42.3, 52.2, "foris"),
        },
    ),
    (
        "SINE (DINOv2-L)",
        "COCO, ADE20K, Objects365",
        {
            "COCO-20i": (64.5, 66.1, "sansa"),
            "LVIS-92i": (31.2, 35.5, "sansa"),
            "PASCAL-Part": (36.2, None, "sansa"),
            "PACO-Part": (23.3, None, "sansa"),
        },
    ),
    (
        "DiffewS (SD 2.1)",
        "COCO, ADE20K, PASCAL VOC",
        {
            "COCO-20i": (71.3, 72.2, "diffews"),
            "LVIS-92i": (31.4, 35.4, "diffews"),
            "FSS-1000": (87.8, 88.0, "diffews"),
            "PASCAL-5i": (88.3, 87.8, "diffews"),
            "PASCAL-Part": (34.0, None, "diffews"),
            "PACO-Part": (22.8, None, "diffews"),
        },
    ),
    (
        "SANSA (SAM2-L)",
        "COCO, ADE20K",
        {
            "COCO-20i": (76.4, 77.1, "sansa"),
            "LVIS-92i": (36.2, 42.5, "sansa"),
            "FSS-1000": (88.2, 89.0, "sansa"),
            "PASCAL-Part": (40.4, None, "sansa"),
            "PACO-Part": (29.2, None, "sansa"),
        },
    ),
    (
        "SANSA (SAM2-L)",
        "COCO, ADE20K, LVIS, PACO",
        {
            "COCO-20i": (75.6, 78.6, "sansa"),
            "LVIS-92i": (50.3, 59.0, "sansa"),
            "FSS-1000": (90.0, 91.0, "sansa"),
            "PASCAL-Part": (49.1, None, "sansa"),
            "PACO-Part": (43.0, None, "sansa"),
        },
    ),
    (
        "Painter (ViT-L)",
        "COCO, ADE20K, NYUv2 and other tasks",
        {
            "COCO-20i": (33.1, 32.6, "sansa"),
            "LVIS-92i": (10.5, 10.9, "sansa"),
            "FSS-1000": (61.7, 62.3, "seggpt"),
            "PASCAL-5i": (64.5, 64.6, "seggpt"),
            "PASCAL-Part": (30.4, None, "sansa"),
            "PACO-Part": (14.1, None, "sansa"),
            "DAVIS-17": (34.6, None, "seggpt"),
            "YT-VOS-18": (24.1, None, "seggpt"),
            "MOSE": (14.5, None, "seggpt"),
        },
    ),
    (
        "SegGPT (ViT-L)",
        "COCO, ADE20K, PASCAL VOC, PACO and others",
        {
            "COCO-20i": (56.1, 67.9, "seggpt"),
            "LVIS-92i": (18.6, 25.4, "sansa"),
            "FSS-1000": (85.6, 89.3, "seggpt"),
            "PASCAL-5i": (83.2, 89.8, "seggpt"),
            "PASCAL-Part": (35.8, None, "sansa"),
            "PACO-Part": (13.5, None, "sansa"),
            "DAVIS-17": (75.6, None, "seggpt"),
            "YT-VOS-18": (74.7, None, "seggpt"),
            "MOSE": (45.1, None, "seggpt"),
        },
    ),
    (
        "SegIC (DINOv2-L)",
        "COCO, ADE20K, LVIS; names at test",
        {
            "COCO-20i": (76.1, None, "segic"),
            "LVIS-92i": (44.6, None, "segic"),
            "FSS-1000": (86.8, None, "segic"),
            "PASCAL-Part": (39.9, None, "foris"),
            "PACO-Part": (25.9, None, "foris"),
            "COCO#": (72.9, None, "segic"),
            "ADE20K#": (55.5, None, "segic"),
            "PC-459#": (23.9, None, "segic"),
            "A-847#": (14.8, None, "segic"),
            "DAVIS-17": (71.4, None, "segic"),
            "YT-VOS-18": (62.7, None, "segic"),
        },
    ),
    (
        "SegIC (DINOv2-G)",
        "COCO, ADE20K, LVIS; names at test",
        {
            "COCO-20i": (74.5, None, "segic"),
            "LVIS-92i": (47.8, None, "segic"),
            "FSS-1000": (88.4, None, "segic"),
            "PASCAL-Part": (31.2, None, "sansa"),
            "PACO-Part": (18.7, None, "sansa"),
            "COCO#": (74.0, None, "segic"),
            "ADE20K#": (59.0, None, "segic"),
            "PC-459#": (24.0, None, "segic"),
            "A-847#": (15.4, None, "segic"),
            "DAVIS-17": (73.7, None, "segic"),
            "YT-VOS-18": (65.4, None, "segic"),
        },
    ),
)
