#!/usr/bin/env bash
# Measures what docs/context.md and docs/covariates.md say of reading, one part a bar:
#
#   scripts/context.sh CIK_FILE [reader] [cik] [events] [steps] [covariates]      (default: all five)
#
# reader trains the reader and its control on random weights, cik runs Context is Key (every arm against the first,
# paired, Holm: runs/context/cik/metrics.json), events the synthetic events on prices, steps the cost of a training step
# with texts, covariates Time-LLM with and without two published forecasts. A part whose result is there is not run
# again, so that a stopped run goes on; remove the result to measure anew. PYTHON: the interpreter.
set -euo pipefail
python=${PYTHON:-python}
file=${1:?usage: scripts/context.sh CIK_FILE [reader] [cik] [events] [steps] [covariates]}
shift
parts=("$@")
[[ $# -gt 0 ]] || parts=(reader cik events steps covariates)
reader=runs/context_reader control=runs/context_reader_spectrum out=runs/context
mkdir -p "$out"

unless() {  # file that the command leaves, the command
    local made=$1
    shift
    if [[ -e $made ]]; then echo "== $made is there"; else echo "== $*" && "$@"; fi
}

note() {  # file for what the command prints, the command
    local made=$1
    shift
    "$@" | tee "$made.part"
    mv "$made.part" "$made"
}

train() {  # configuration
    "$python" recipes/train_context_reader.py --config "recipes/configs/train_context_reader/$1.yaml"
}

for part in "${parts[@]}"; do
    case $part in
    reader)
        unless "$reader/metrics.json" train smollm2
        unless "$control/metrics.json" train smollm2_spectrum
        ;;
    cik)
        unless "$out/cik/metrics.json" "$python" -m tsllm benchmark cik "$file" --output-dir "$out/cik" \
            --reader "$reader" --control "$control" --arms rules+learned,learned,spectrum,rules,data,none,swapped
        ;;
    events)
        unless "$out/events.txt" note "$out/events.txt" \
            "$python" scripts/context_events.py --reader "$reader" --control "$control"
        ;;
    steps)
        unless "$out/steps.txt" note "$out/steps.txt" \
            "$python" scripts/bench_reader.py --models timellm,patchtst,timexer,dlinear --rounds 20
        ;;
    covariates)
        "$python" -m tsllm compare recipes/configs/compare/epf_covariates.yaml # goes on by itself
        ;;
    *)
        echo "unknown part $part; choose among reader, cik, events, steps, covariates" >&2
        exit 2
        ;;
    esac
done
