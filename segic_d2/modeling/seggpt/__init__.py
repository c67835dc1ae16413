"""SegGPT (ICCV 2023) and Painter (CVPR 2023): prompts are pixels, answers are painted."""
