#!/usr/bin/env bash
# The block queue on the workload of which the published DualParal code was timed (12.5 s on two ranks of one thread,
# f32, two Zen 5 cores): 8 layers, 4 heads x 64, ffn 1024, text width 256, 16 x 16 latents, 8 blocks of 4 with an
# overlap of 4, 10 steps, guidance 5. Rules and precisions are interleaved; medians of the denoising time.
set -euo pipefail
source "$(dirname "$0")/runs.sh"
published=12.5
"$MAKE_MODEL" "$scratch/model" heads=4 head_dim=64 ffn=1024 layers=8 text_dim=256
job=(--model "$scratch/model" --prompt-embeds "$scratch/model/embeds.safetensors" --latents-only
     --size 128x128 --num-frames 141 --steps 10 --guidance-scale 5 --block 4 --overlap 4 --seed 1 --threads 1)
for _ in $(seq "$ROUNDS"); do
  for rule in dualparal aligned; do
    for precision in f32 bf16; do
      generate 2 "${job[@]}" --context-rule $rule --precision $precision --stages 2 --branches 1
      value denoise >>"$scratch/$rule.$precision"
    done
  done
done
echo "rule       precision  denoise s   over the published code's $published s"
for rule in dualparal aligned; do
  for precision in f32 bf16; do
    seconds=$(median <"$scratch/$rule.$precision")
    awk -v r=$rule -v p=$precision -v s="$seconds" -v b=$published 'BEGIN {printf "%-10s %-9s %10.2f   %.2f\n", r, p, s, b / s}'
  done
done
awk -v d="$(median <"$scratch/dualparal.f32")" -v a="$(median <"$scratch/aligned.f32")" \
  'BEGIN {printf "aligned over dualparal, f32: %.2f\n", d / a}'
