#!/usr/bin/env bash
# Run on a machine with a GPU: its tests, then every benchmark that uses it, within 12 GB.
#
#     benchmarks/gpu.sh [FOLDER]     # JSON files and a plot go to FOLDER, gpu-results if left out
#
# The dtype is the GPU's own: bfloat16 from compute capability 8.0 on, float16 below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
results=$(realpath -m "${1:-gpu-results}")
mkdir -p "$results"
python=${PYTHON:-uv run python}

say() {
    printf '\n== %s\n' "$*"
}

run() {
    say "$@"
    "$@"
}

say "the GPU"
$python - <<'END'
import sys

import torch

from bert_scratch.model.devices import resolve_dtype

if not torch.cuda.is_available():
    sys.exit("error: torch sees no GPU on this machine")
free, total = torch.cuda.mem_get_info()
print(f"{torch.cuda.get_device_name()}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free,", end=" ")
print("dtype {} ({})".format(*resolve_dtype("auto", torch.device("cuda"))))
END
dtype=$($python -c 'import torch
from bert_scratch.model.devices import resolve_dtype
print(resolve_dtype("auto", torch.device("cuda"))[0])')

packs=$($python -c "import torch
from bert_scratch.model.attention import has_packed_attention
print(has_packed_attention(torch.device('cuda'), torch.$dtype, 64))")

run $python -m pytest -q -m gpu
say "packed and compiled steps against plain ones, in the lines 'chosen'; 'needs' is the memory"
for preset in mini base; do
    run $python -m bert_scratch pretrain --device cuda --dtype "$dtype" --preset "$preset" \
        --num-train-steps 1000 --dry-run --output-dir "$results/plan-$preset" \
        | tee "$results/plan-$preset.txt"
done
for shape in "mini 64 128" "base 32 128" "base 8 512"; do
    read -r preset rows length <<<"$shape"
    # two at a time: all of base are too many; our packed arms know no dropout, so all are without
    arms="eager sdpa compiled compiled-sdpa ours-compiled"
    if [[ $packs == True ]]; then arms+=" ours-packed ours-packed-compiled"; fi
    for arm in $arms; do
        run $python benchmarks/train.py --device cuda --dtype "$dtype" --preset "$preset" \
            --train-batch-size "$rows" --max-seq-length "$length" --dropout 0 --arms "ours,$arm" \
            --output "$results/train-$preset-$length-$arm.json"
    done
done
run $python benchmarks/inference.py --device cuda --dtype "$dtype" --num-texts 4096 \
    --output "$results/inference.json"
run $python benchmarks/end_to_end.py --device cuda --seconds 300 --preset mini \
    --json "$results/end_to_end.json" --plot "$results/end_to_end.png"
say "results are in $results"
