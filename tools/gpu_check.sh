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
source tools/gpu_site.sh
stay_offline

if [ "${1:-}" = --list-wheels ]; then
    shift
    exec "$python" tools/gpu_wheels.py --list "$@"
fi

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
use_site "$site"
mkdir -p "$OUT"
install_missing "$site" "$wheels"
"$python" tools/gpu_check.py "$@"
