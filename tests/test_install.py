"""The installed package, and the set-up that installs it."""

import os
import subprocess
import sys
import sysconfig

import pytest

from tests.wheel import ROOT, run_code


def test_wheel_is_imported_and_finds_every_config(installed, tmp_path):
    configs = sorted(str(p.relative_to(ROOT / "configs")) for p in ROOT.glob("configs/**/*.yaml"))
    assert configs
    done = run_code(
        "import segic_d2\n"
        "from segic_d2.config import load_config, get_config_file\n"
        f"for name in {configs}:\n"
        "    load_config(name)\n"
        "    print(get_config_file(name))\n"
        "print(segic_d2.__file__)\n",
        cwd=tmp_path,
        path=installed,
    )
    assert done.returncode == 0, done.stderr
    folders = [str(installed / "segic_d2" / "configs" / name) for name in configs]
    assert done.stdout.splitlines()[-len(configs) - 1 :] == [
        *folders,
        str(installed / "segic_d2" / "__init__.py"),
    ]


def test_wheel_segments_with_a_tiny_random_backbone(installed, tmp_path):
    done = run_code(
        "import numpy as np\n"
        "from segic_d2 import InContextPredictor\n"
        "opts = ['MODEL.TIMM.NAME', 'test_vit', 'MODEL.BACKBONE.WEIGHTS', '', 'INPUT.CANVAS', 64,\n"
        "        'MODEL.SEGIC.TEXT.NAME', 'none', 'MODEL.SEGIC.META', False]\n"
        "predictor = InContextPredictor('segic_dinov2_S.yaml', device='cpu', opts=opts)\n"
        "image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)\n"
        "predictor.set_references([(image, image[:, :, 0] > 128, 'noise')])\n"
        "result = predictor(image)\n"
        "print(tuple(result.masks.shape), result.names, predictor.__module__)\n",
        cwd=tmp_path,
        path=installed,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "(1, 40, 60) ['noise'] segic_d2.predictor.image"


def test_wheel_has_the_command_line(installed, tmp_path):
    done = run_code("import segic_cli; print(segic_cli.__file__)", cwd=tmp_path, path=installed)
    assert done.stdout.splitlines() == [str(installed / "segic_cli" / "__init__.py")]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [installed / "bin" / "segic", "--help"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("usage: segic [-h] COMMAND")


def test_import_without_detectron2_says_how_to_install_it(tmp_path):
    for name in ("__init__.py", "utils/__init__.py", "utils/texts.py"):
        place = tmp_path / "segic_d2" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / "segic_d2" / name).read_bytes())
    block = (
        "class Block:\n"
        "    def find_spec(self, name, *args):\n"
        "        if name == 'detectron2':\n"
        "            raise ModuleNotFoundError('no detectron2', name=name)\n"
        "sys.meta_path.insert(0, Block())\n"
        "import segic_d2\n"
    )
    done = run_code(block, cwd=tmp_path, path=tmp_path)
    assert done.returncode == 1
    assert "ImportError: segic_d2 needs detectron2" in done.stderr
    assert f"--target {sysconfig.get_path('purelib')} sal-detectron2==0.7.2" in done.stderr
    assert f"make setup VENV={sys.prefix}" in done.stderr
    assert "git+https://github.com/facebookresearch/detectron2.git" in done.stderr


def _setup_env(tmp_path, **environment):
    # -S -E: the standard library alone, as on a fresh machine
    return subprocess.run(
        [sys.executable, "-S", "-E", str(ROOT / "tools" / "setup_env.py")],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )


def test_setup_fails_with_one_line(tmp_path):
    broken = tmp_path / "env"
    (broken / "bin").mkdir(parents=True)
    (broken / "bin" / "python").symlink_to("/bin/false")
    done = _setup_env(tmp_path, VENV=str(broken))
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {broken}/bin/python does not run: remove {broken} and run again\n"
    )


@pytest.mark.parametrize(
    "output, advice",
    [
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(...: Failed to "
            "establish a new connection: [Errno -2] Name or service not known'\n"
            "ERROR: No matching distribution found for torch>=2.4",
            "index cannot be reached",
        ),
        ("ERROR: No matching distribution found for timm>=9", "no timm>=9 for this Python 3.99"),
        ("  ERROR: Failed building wheel for foo\nerror: x", "foo has no wheel for this Python"),
        ("fatal: unable to access 'https://x.y/z/': Could not", "https://x.y/z/ failed: check"),
        ("some\nERROR: something else\n", "ERROR: something else"),
    ],
)
def test_setup_explains_what_pip_says(output, advice, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import setup_env

    diagnosis = setup_env._diagnose(output, "3.99")
    assert advice in diagnosis and "\n" not in diagnosis


def test_make_help_names_every_variable():
    text = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True).stdout
    for word in ("VENV", "PYTHON", "DETECTRON2", "TORCH", "FORCE", "SEGIC_D2_CACHE", "ARGS"):
        assert word in text
