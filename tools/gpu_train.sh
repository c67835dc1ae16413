#!/usr/bin/env bash
# A training of six minutes on a GPU machine without a network; docs/gpu.md, "Training in minutes".
#
#   [WHEELS=DIR] bash tools/gpu_train.sh pack [--python 3.12]      at home: .gpu_train/part1, part2
#   bash tools/gpu_train.sh unpack                                 there, with part1
#   [OUT=DIR] bash tools/gpu_train.sh train [--minutes 6] [CONFIG] there, with part2
#   bash tools/gpu_train.sh --dry-run                              all of it on a CPU, at toy size
#
# What unpack and train make stays in output/gpu_train, which git ignores. OUT (default
# output/gpu_train/out) gets weights, curve.png, log.txt and summary.json, 8 files at most.
# PYTHON=python3. PACK=DIR and WORK=DIR are other places for .gpu_train and output/gpu_train.
set -euo pipefail
export GPU_TRAIN_STARTED=$(date +%s)
root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
wheels=${WHEELS:+$(realpath "$WHEELS")}
pack=$(realpath -m "${PACK:-$root/.gpu_train}")
work=$(realpath -m "${WORK:-$root/output/gpu_train}")
out=$(realpath -m "${OUT:-$work/out}")
cd "$root"
source tools/gpu_site.sh
step=${1:-}
shift || true

case $step in
pack)
    use_site tools
    "$python" tools/gpu_pack.py "$pack" ${wheels:+--wheels "$wheels"} "$@"
    ;;
unpack)
    stay_offline
    "$python" tools/gpu_parts.py "$pack/part1"
    rm -rf "$work/site"
    mkdir -p "$work/site"
    install_missing "$work/site" "$pack/part1/wheels"
    cp "$pack/part1/backbone.safetensors" "$work/"
    echo "$work: ready"
    ;;
train)
    stay_offline
    use_site "$work/site"
    "$python" tools/gpu_parts.py "$pack/part2"
    OUT=$out "$python" tools/gpu_train.py --pack "$pack" --work "$work" "$@"
    ;;
--dry-run)
    here=$(mktemp -d)
    trap 'rm -rf "$here"' EXIT
    export PACK=$here/pack WORK=$here/work OUT=$out
    bash tools/gpu_train.sh pack --toy
    bash tools/gpu_train.sh unpack
    bash tools/gpu_train.sh train --toy --scenes 12 "$@"
    ;;
*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac
