#!/usr/bin/env bash
# Runs the tests under other thread counts, matrix products and instruction sets, in random order and beside busy
# processes. Arguments: the tests to run (default: all). PYTHON: the interpreter. SEED: of the random order.
set -u
python=${PYTHON:-python}
seed=${SEED:-$RANDOM}
failed=()

run() {  # name of the setting, its variables, options of pytest
    local name=$1 variables=$2
    shift 2
    echo "== $name"
    # shellcheck disable=SC2086
    env $variables "$python" -m pytest -q "$@" || failed+=("$name")
}

run "one thread" "OMP_NUM_THREADS=1" "$@"
run "two threads" "OMP_NUM_THREADS=2" "$@"
run "torch's own matrix products" "TSLLM_MATMUL=torch" "$@"
run "oneDNN's matrix products" "TSLLM_MATMUL=onednn" "$@"
run "no vector instructions" "ATEN_CPU_CAPABILITY=default" "$@"
run "AVX2" "ATEN_CPU_CAPABILITY=avx2" "$@"
run "random order, seed $seed" "OMP_NUM_THREADS=1" --random-order-bucket=global --random-order-seed="$seed" "$@"

busy=()
for _ in $(seq "$(nproc)"); do
    while :; do :; done &
    busy+=($!)
done
trap 'kill "${busy[@]}" 2>/dev/null' EXIT
run "beside busy processes" "OMP_NUM_THREADS=1" "$@"

if ((${#failed[@]})); then
    printf 'failed under: %s\n' "${failed[@]}"
    exit 1
fi
echo "passed under every setting"
