#!/usr/bin/env bash
# From the start of the program to the finished mp4: the short demo (45 frames of 64 x 64, 16 steps, f32) on all
# cores of this machine; minimum, median and maximum of ROUNDS runs. Figure: <= 2.2 s on two cores.
set -euo pipefail
ROUNDS=${ROUNDS:-7}
source "$(dirname "$0")/runs.sh"
for _ in $(seq "$ROUNDS"); do
  start=$EPOCHREALTIME
  generate 1 "$root/configs/demo/short.yaml" "$@"
  awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN {print b - a}' >>"$scratch/wall"
  [ -s "$scratch/run/video.mp4" ] || { echo "no video was made" >&2; exit 1; }
done
printf 'start to mp4, %d runs: min %.2f s, median %.2f s, max %.2f s\n' "$ROUNDS" "$(sort -g "$scratch/wall" | head -1)" \
  "$(median <"$scratch/wall")" "$(sort -g "$scratch/wall" | tail -1)"
