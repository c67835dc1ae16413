#!/usr/bin/env bash
# What only a GPU can tell, in four minutes at most; docs/gpu.md says more.
#
#   [WHEELS=DIR] [OUT=DIR] [PYTHON=python3] bash tools/gpu_check.sh     on a machine with one GPU
#   bash tools/gpu_check.sh --dry-run                                   all of it on a CPU, at toy size
#   bash tools/gpu_check.sh --list-wheels [PYTHON_VERSION]              how to fill WHEELS=DIR elsewhere
#
# OUT (default output/gpu_check) gets gpu_check.json and gpu_check.txt, which grow as results come.
# Packages that the machine lacks are taken from WHEELS into a temporary folder; nothing is changed.
set -euo pipefail
export GPU_CHECK_STARTED=$(date +%s)
wheels=${WHEELS:+$(realpath "$WHEELS")}
export OUT=$(realpath -m "${OUT:-$(dirname "${BASH_SOURCE[0]}")/../output/gpu_check}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
# nothing may try to fetch anything
export SEGIC_D2_OFFLINE=1 HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

if [ "${1:-}" = --list-wheels ]; then
    shift
    exec "$python" tools/gpu_wheels.py --list "$@"
fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
export PYTHONPATH="$PWD:$site${PYTHONPATH:+:$PYTHONPATH}"
mkdir -p "$OUT"
# one path a line: wheels of what this Python lacks
needed=$("$python" tools/gpu_wheels.py --missing ${wheels:+"$wheels"}) || exit 1
if [ -n "$needed" ]; then
    mapfile -t files <<<"$needed"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
        --target "$site" "${files[@]}" ||
        for file in "${files[@]}"; do "$python" -m zipfile -e "$file" "$site"; done
fi
"$python" tools/gpu_check.py "$@"
