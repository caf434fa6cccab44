#!/usr/bin/env bash
# Run on a machine with a GPU: every benchmark that uses it, and its tests, within 12 GB.
#
#     benchmarks/gpu.sh [FOLDER [PART...]]
#     LIMIT_S=120 benchmarks/gpu.sh results train tests     # as much as a short loan allows
#
# FOLDER, gpu-results if left out, receives JSON files, a plot and what was printed. Parts: plan,
# train, inference, end_to_end, tests; all, in this order, if left out. What fails, or takes longer
# than LIMIT_S (900), is named at the end and makes the exit code 1; the rest is done all the same.
# The dtype is the GPU's own: bfloat16 from compute capability 8.0 on, float16 below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
results=$(realpath -m "${1:-gpu-results}")
shift || true
parts=("$@")
if [[ $# == 0 ]]; then parts=(plan train inference end_to_end tests); fi
mkdir -p "$results"
python=${PYTHON:-uv run python}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1
failed=()

say() {
    printf '\n== %s\n' "$*"
}

run() {
    say "$@"
    timeout -k 30 "${LIMIT_S:-900}" "$@" || failed+=("$*")
}

plan() {
    say "packed and compiled steps against plain ones, in the lines 'chosen'; 'needs' is the memory"
    for preset in mini base; do
        run $python -m bert_scratch pretrain --device cuda --dtype "$dtype" --preset "$preset" \
            --num-train-steps 1000 --dry-run --output-dir "$results/plan-$preset"
    done
}

train() {
    # two at a time: all of base are too many; our packed arms know no dropout, so all are without
    local arms="eager ours-compiled compiled sdpa compiled-sdpa"
    if [[ $packs == True ]]; then arms+=" ours-packed ours-packed-compiled"; fi
    for shape in "base 32 128" "base 8 512" "mini 64 128"; do
        read -r preset rows length <<<"$shape"
        for arm in $arms; do
            run $python benchmarks/train.py --device cuda --dtype "$dtype" --preset "$preset" \
                --train-batch-size "$rows" --max-seq-length "$length" --dropout 0 \
                --arms "ours,$arm" --output "$results/train-$preset-$length-$arm.json"
        done
    done
}

inference() {
    run $python benchmarks/inference.py --device cuda --dtype "$dtype" --num-texts 4096 \
        --output "$results/inference.json"
}

end_to_end() {
    run $python benchmarks/end_to_end.py --device cuda --seconds 240 --preset mini \
        --json "$results/end_to_end.json" --plot "$results/end_to_end.png"
}

tests() {
    run $python -m pytest -q -m gpu
}

for part in "${parts[@]}"; do
    case $part in
        plan | train | inference | end_to_end | tests) ;;
        *) echo "error: no part $part; have plan train inference end_to_end tests" >&2; exit 2 ;;
    esac
done

say "the GPU"
$python - <<'END'
import sys

import torch

from bert_scratch.model.devices import resolve_dtype

if not torch.cuda.is_available():
    sys.exit("error: torch sees no GPU on this machine")
free, total = torch.cuda.mem_get_info()
print(f"{torch.cuda.get_device_name()}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free,", end=" ")
print("torch {}, dtype {} ({})".format(torch.__version__, *resolve_dtype("auto", torch.device("cuda"))))
END
dtype=$($python -c 'import torch
from bert_scratch.model.devices import resolve_dtype
print(resolve_dtype("auto", torch.device("cuda"))[0])')
packs=$($python -c "import torch
from bert_scratch.model.attention import has_packed_attention
print(has_packed_attention(torch.device('cuda'), torch.$dtype, 64))")

{
    for part in "${parts[@]}"; do "$part"; done
    say "results are in $results"
    if [[ ${#failed[@]} -gt 0 ]]; then
        printf 'FAILED or too slow: %s\n' "${failed[@]}"
        exit 1
    fi
} 2>&1 | tee "$results/log.txt"
