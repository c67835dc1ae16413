from pathlib import Path

from setuptools import find_packages, setup

# Detectron2 itself is on no package index: tools/setup_env.py installs it, or see INSTALL.md.
# Its own dependencies are listed here, since it is installed without them.
DETECTRON2_NEEDS = [
    "black",
    "cloudpickle",
    "fvcore>=0.1.5.post20221221",
    "hydra-core>=1.1",
    "iopath>=0.1.9",
    "matplotlib",
    "omegaconf>=2.1,<2.4",
    "opencv-python-headless",
    "packaging",
    "pillow>=9.4",
    "pycocotools>=2.0.6",
    "setuptools<81",  # its model zoo imports pkg_resources, which later ones lack
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm",
    "yacs>=0.1.8",
]

EMBEDDED_NEEDS = [
    "onnx>=1.16",  # reads the embedded weights, once
    "scikit-image>=0.22",  # the photographs of the embedded dataset
]

TEXT_NEEDS = ["open_clip_torch>=2.24"]

LVIS_NEEDS = ["lvis>=0.5.3"]  # LVIS's own average precision

SUPERVISION_NEEDS = ["supervision>=0.25"]  # results as its Detections

HEIF_NEEDS = ["pillow-heif>=0.18"]  # pictures of phones

VIDEO_NEEDS = ["av>=15"]  # reads and writes video files; FFmpeg is in its wheels

DIFFUSION_NEEDS = ["diffusers>=0.30", "transformers>=4.44"]

RAY_NEEDS = ["ray[data]>=2.40"]  # labels folders on a cluster

TEST_NEEDS = [
    "torchmetrics>=1.0",  # an independent IoU to compare ours with
    "hypothesis>=6.100",  # any input, in the slow tests
    *("ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"),  # run docs/first_steps.ipynb
]

README = Path(__file__).with_name("README.md")

setup(
    name="segic_d2",
    version="0.2.0",
    description="In-context segmentation (SegIC, ECCV 2024) as a Detectron2 project",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["segic_cli", "segic_d2", "segic_d2.*"]) + ["segic_d2.configs"],
    package_dir={"segic_d2.configs": "configs"},
    package_data={
        "segic_d2": [
            "py.typed",
            "**/*.csv",
            "**/*.json",
            "**/*.txt",
            "**/*.safetensors",
            "weights/*.md",
        ],
        "segic_d2.configs": ["**/*.yaml"],
    },
    entry_points={"console_scripts": ["segic = segic_cli.main:main"]},
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "timm>=1.0.20",
        "safetensors>=0.4",
        "numpy>=1.24",
        *EMBEDDED_NEEDS,
        *DETECTRON2_NEEDS,
    ],
    extras_require={
        "text": TEXT_NEEDS,
        "diffusion": [*DIFFUSION_NEEDS, "accelerate>=0.33"],
        "lvis": LVIS_NEEDS,
        "supervision": SUPERVISION_NEEDS,
        "heif": HEIF_NEEDS,
        "video": VIDEO_NEEDS,
        "demo": EMBEDDED_NEEDS,
        "ray": RAY_NEEDS,
        "dev": [
            *(*TEXT_NEEDS, *DIFFUSION_NEEDS, *SUPERVISION_NEEDS, *HEIF_NEEDS, *VIDEO_NEEDS),
            *("pytest>=8", "ruff>=0.9", "mypy>=1.15", *TEST_NEEDS, *RAY_NEEDS),
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
