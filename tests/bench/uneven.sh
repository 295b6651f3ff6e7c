#!/usr/bin/env bash
# Two uneven stages on the CPU, one core each: 3 layers of an attention-heavy shape (dim 384, 3 heads of 128) in one
# guidance branch, so that no other attention is open during a rank's linear work. How long the lighter rank waits, and
# how long the run takes, when the ranks compute attention for each other meanwhile (--serve-attention) and when they do
# not. Interleaved; medians over ROUNDS. A window has 4,096 tokens at 256x256 and 9,216 at 384x384.
#   ROUNDS=5 [FRAMES=145] tests/bench/uneven.sh [WIDTHxHEIGHT...]
set -euo pipefail
source "$(dirname "$0")/runs.sh"
[ $# -gt 0 ] || set -- 256x256

"$MAKE_MODEL" "${scratch:?}/three" heads=3 head_dim=128 ffn=1536 layers=3 text_dim=256 >/dev/null
waits() {  # seconds of waiting that are left to rank $1: without those in which it served others
  awk -v rank="$1" -F'[:,]' '/"rank":/ {r = $2 + 0} r == rank && /"wait_s"/ {w = $2}
    r == rank && /"served_s"/ {s = $2} END {print w - s}' "$scratch/run/report.json"
}
for size in "$@"; do
  for precision in f32 bf16; do
    of=$scratch/$size.$precision
    for _ in $(seq "$ROUNDS"); do
      for serve in off on; do
        generate 2 --model "$scratch/three" --prompt-embeds "$scratch/three/embeds.safetensors" --latents-only \
          --size "$size" --block 8 --overlap 4 --seed 1 --threads 1 --precision $precision \
          --num-frames "${FRAMES:-145}" --steps 8 --guidance-scale 1 --stages 2 --serve-attention $serve
        value denoise >>"$of.$serve"
        for rank in 0 1; do waits $rank; done | sort -g | tail -1 >>"$of.$serve.wait"
        sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$scratch/run/report.json" >>"$of.hashes"
      done
    done
    [ "$(sort -u "$of.hashes" | wc -l)" -eq 1 ] || { echo "uneven.sh: serving gives other latents" >&2; exit 1; }
    awk -v what="$size $precision" -v s0="$(median <"$of.off")" -v s1="$(median <"$of.on")" \
      -v i0="$(median <"$of.off.wait")" -v i1="$(median <"$of.on.wait")" 'BEGIN {
      printf "%s\n", what
      printf "  two uneven stages             %8.2f s   the lighter one waits %6.2f s\n", s0, i0
      printf "  two uneven stages that serve  %8.2f s   the lighter one waits %6.2f s, %.0f %% less; %.2f times as fast\n",
        s1, i1, 100 * (1 - i1 / i0), s0 / s1}'
  done
done
