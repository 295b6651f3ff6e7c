#!/usr/bin/env bash
# What commits cost: the demo run (configs/demo/run.yaml, latents only, one rank) as it is, against one whose fsync and
# fdatasync do nothing and whose first state would come after the end; ROUNDS pairs in turn. Prints the median of the
# pairs' ratios of the time of denoising and p50 and p99 of the commits. Figure: <= 1.01.
set -euo pipefail
ROUNDS=${ROUNDS:-5}
source "$(dirname "$0")/runs.sh"
shim=$(echo "$(dirname "$LONGTAKE")"/tests/crash/*crash_shim.so)
flags=("$root/configs/demo/run.yaml" --latents-only "$@")

with() { generate 1 "${flags[@]}"; }
without() {
  CRASH_FOLDER=$scratch/run CRASH_NO_SYNC=1 LD_PRELOAD=$shim generate 1 "${flags[@]}" --checkpoint-every 1000000
}

for round in $(seq "$ROUNDS"); do
  if [ $((round % 2)) -eq 1 ]; then
    with && a=$(value denoise) && grep -A3 '"commits\|p50\|p99' "$scratch/run/report.json" >"$scratch/commits" || exit 1
    without && b=$(value denoise)
  else
    without && b=$(value denoise)
    with && a=$(value denoise)
  fi
  awk -v a="$a" -v b="$b" 'BEGIN {printf "with %.2f s, without %.2f s\n", a, b; print a / b >"/dev/stderr"}' \
    2>>"$scratch/ratios"
done
printf 'commits with states and fsync over none: median ratio %.4f of %d pairs\n' "$(median <"$scratch/ratios")" "$ROUNDS"
sort -u "$scratch/commits"
