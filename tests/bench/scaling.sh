#!/usr/bin/env bash
# scaling.sh [CONFIG.yaml] [flags]: one rank against two, one thread each, interleaved; medians of the time from
# start to the finished video (total) and of denoising, and what the plan predicted of it from rates measured at the
# start of each run. Writes scaling.json beside the table when JSON is set.
set -euo pipefail
source "$(dirname "$0")/runs.sh"
config=${1:-$root/configs/demo/run.yaml}
shift || true
for _ in $(seq "$ROUNDS"); do
  for ranks in 1 2; do
    generate $ranks "$config" --threads 1 "$@"
    value total >>"$scratch/total.$ranks"
    value denoise >>"$scratch/denoise.$ranks"
    predicted >>"$scratch/predicted.$ranks"
    value idle_share >>"$scratch/idle.$ranks"
    sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$scratch/run/report.json" >>"$scratch/hashes"
  done
done
[ "$(sort -u "$scratch/hashes" | wc -l)" -eq 1 ] || { echo "the runs differ in their latents" >&2; exit 1; }
echo "ranks   total s   denoise s   predicted   idle share"
for ranks in 1 2; do
  printf '%5d %9.2f %11.2f %11.2f %12.3f\n' $ranks "$(median <"$scratch/total.$ranks")" \
    "$(median <"$scratch/denoise.$ranks")" "$(median <"$scratch/predicted.$ranks")" "$(median <"$scratch/idle.$ranks")"
done
speedup=$(awk -v a="$(median <"$scratch/total.1")" -v b="$(median <"$scratch/total.2")" 'BEGIN {printf "%.3f", a / b}')
echo "speed-up of two ranks, start to finished video: $speedup"
[ -z "${JSON:-}" ] || printf '{"name":"scaling","rounds":%d,"total_1":%s,"total_2":%s,"speedup":%s}\n' "$ROUNDS" \
  "$(median <"$scratch/total.1")" "$(median <"$scratch/total.2")" "$speedup" >"$JSON"
