# Sourced by gpu_check.sh and gpu_train.sh: how they run on a machine without a network.
python=${PYTHON:-python3}

# nothing may try to fetch anything, and no Python leaves files in the checkout
stay_offline() {
    export SEGIC_D2_OFFLINE=1 HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
}

# use_site FOLDER: take packages from a folder too
use_site() {
    export PYTHONPATH="$PWD:$1${PYTHONPATH:+:$PYTHONPATH}"
}

# install_missing SITE [WHEELS]: what this Python lacks, from a folder of wheels into a folder
install_missing() {
    local needed files file
    needed=$("$python" tools/gpu_wheels.py --missing ${2:+"$2"}) || return 1 # one path a line
    [ -n "$needed" ] || return 0
    mapfile -t files <<<"$needed"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --disable-pip-version-check \
        --target "$1" "${files[@]}" ||
        for file in "${files[@]}"; do "$python" -m zipfile -e "$file" "$1"; done
}
