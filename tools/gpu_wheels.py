"""What segic_d2 needs beside torch and timm, for a machine without a network.

    python tools/gpu_wheels.py --list [PYTHON_VERSION]    commands that fill the folder .wheels
    python tools/gpu_wheels.py --missing [FOLDER]         wheels there of what this Python lacks

Only the standard library is used. All of them together are nine megabytes. torch, torchvision,
timm, numpy, OpenCV, Pillow, Matplotlib, tensorboard, scikit-image, safetensors and pytest are large
or belong to torch: the machine has them.
"""

import argparse
import importlib.util
import platform
import sys
from pathlib import Path

from setup_env import WHEEL, WHEEL_NAME

BINARY, SOURCE, DETECTRON2 = "wheel", "source archive", "wheel for one Python"
NEEDED = (  # module, requirement, how the package index has it
    ("yacs", "yacs>=0.1.8", BINARY),
    ("termcolor", "termcolor>=1.1", BINARY),
    ("tabulate", "tabulate", BINARY),
    ("cloudpickle", "cloudpickle", BINARY),
    ("portalocker", "portalocker", BINARY),
    ("iopath", "iopath==0.1.9", BINARY),
    ("omegaconf", "omegaconf>=2.1,<2.4", BINARY),
    ("hydra", "hydra-core>=1.1", BINARY),
    ("pycocotools", "pycocotools>=2.0.6", BINARY),
    ("pkg_resources", "setuptools<81", BINARY),
    ("tqdm", "tqdm", BINARY),
    ("packaging", "packaging", BINARY),
    ("fvcore", "fvcore>=0.1.5.post20221221", SOURCE),
    ("antlr4", "antlr4-python3-runtime==4.9.*", SOURCE),
    ("detectron2", WHEEL, DETECTRON2),
)
FILES = {"pkg_resources": "setuptools", "hydra": "hydra_core", "detectron2": "sal_detectron2"}
FILES["antlr4"] = "antlr4_python3_runtime"
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
FOLDER = ".wheels"


def commands(version):
    """Lines of shell that download or build every wheel for a Python version on x86-64 Linux."""
    pip = "python3 -m pip"
    platforms = " ".join(f"--platform {name}_x86_64" for name in PLATFORMS)
    binary = " ".join(f"'{need}'" for _, need, kind in NEEDED if kind == BINARY)
    source = " ".join(f"'{need}'" for _, need, kind in NEEDED if kind == SOURCE)
    return [
        f"{pip} download --no-deps --only-binary=:all: --python-version {version} "
        f"--implementation cp {platforms} -d {FOLDER} {binary}",
        f"{pip} wheel --no-deps -w {FOLDER} {source}",
        f"{pip} download --no-deps --only-binary=:all: --python-version 3.10 --implementation cp "
        f"--abi none --platform any -d {FOLDER} {WHEEL}",
        f"mv {FOLDER}/{WHEEL_NAME.split('-py3')[0]}-*.whl {FOLDER}/{WHEEL_NAME}",
    ]


def missing(folder):
    """Wheels in a folder (None: there is none) of the modules that this Python lacks.

    Raises:
        FileNotFoundError: some have no wheel there; they are named.
    """
    found, absent = [], []
    for module, need, _ in NEEDED:
        if importlib.util.find_spec(module) is not None:
            continue
        name = FILES.get(module, module)
        wheels = sorted(Path(folder).glob(f"{name}-*.whl")) if folder else []
        found += [str(wheel) for wheel in wheels[-1:]]
        absent += [] if wheels else [need]
    if absent:
        where = f"WHEELS={folder} has" if folder else "no WHEELS=DIR was given with"
        raise FileNotFoundError(
            f"this Python lacks {', '.join(absent)}, and {where} no wheel of them: "
            "bash tools/gpu_check.sh --list-wheels prints how to get them"
        )
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    own = ".".join(platform.python_version_tuple()[:2])
    what.add_argument("--list", nargs="?", const=own, metavar="PYTHON_VERSION")
    what.add_argument("--missing", nargs="?", const="", metavar="FOLDER")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(commands(args.list)))
        return 0
    try:
        print("\n".join(missing(args.missing)))
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
