#!/usr/bin/env bash
# memory.sh [flags]: bytes of each of two ranks on the demo model for 401 and 4,001 frames, with the video: weights,
# tensors at most at once (counted), the plan's number for them, and the process's resident peak. Figures: the plan
# within 5 % of what is counted, and the same for both lengths. Blocks of 4, so that both have all 20 in flight; layers
# split by a table, so that both split alike; no states of the queue, which share features while they are written and so
# keep up to as many again for that time.
set -euo pipefail
source "$(dirname "$0")/runs.sh"
predicted() { sed -n '/"predicted": {/,/\]/s/.*"peak_bytes": \([0-9.e+]*\),*$/\1/p' "$scratch/run/report.json"; }
measured() { sed -n "/\"idle_share\"/,\$s/.*\"$1\": \([0-9.e+]*\),*$/\1/p" "$scratch/run/report.json" | tail -2; }
echo "frames  rank  weights MB  tensors MB   plan MB   plan/counted  resident MB"
for frames in 401 4001; do
  generate 2 "$root/configs/demo/run.yaml" --num-frames $frames --threads 1 --stages 2 --branches 1 \
    --block 4 --hardware h200 --checkpoint-every 1000000 "$@"
  paste <(measured weight_bytes) <(measured device_peak_bytes) <(predicted) <(measured peak_bytes) |
    awk -v f=$frames '{printf "%6d %5d %11.1f %11.1f %9.1f %13.3f %12.1f\n", f, NR - 1, $1 / 1e6, $2 / 1e6, $3 / 1e6, $3 / $2, $4 / 1e6}'
done
