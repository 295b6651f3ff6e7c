#!/usr/bin/env bash
# The block queue on the workload of which the published DualParal code was timed (12.5 s on two ranks of one thread,
# f32, two Zen 5 cores): 8 layers, 4 heads x 64, ffn 1024, text width 256, 16 x 16 latents, 8 blocks of 4 with an
# overlap of 4, 10 steps, guidance 5: 1,746 GFLOP as published (`dualparal`), 993 without running the overlap through
# all layers (`aligned`). Rules and precisions are interleaved; medians of the denoising time. On another processor the
# share of the two cores' measured peak is what compares: there, 2.2 times as fast as the published code is 58 % of the
# peak for `dualparal`, 4 times is 60 % for `aligned`, both in f32 and, twice as fast, in bf16.
set -euo pipefail
source "$(dirname "$0")/runs.sh"
published=12.5
declare -A gflop=([dualparal]=1746 [aligned]=993)

# GFLOP/s that the cores reach in a loop of fused multiply-adds (f32) or dot products (bf16), seen by bench gemm.
peak() {
  "$LONGTAKE" bench gemm --threads 2 --repeat 3 --tokens 512 --dim 512 --ffn 1024 --heads 4 --dtype "$1" \
    --json "$scratch/peak.json" >"$scratch/log"
  awk -F'[:,]' '/"rate"/ {rate = $2} /"peak_share"/ {print rate / $2; exit}' "$scratch/peak.json"
}
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
echo "rule       precision  denoise s   GFLOP/s  of peak   over the published code's $published s on Zen 5"
for precision in f32 bf16; do
  peak=$(peak $precision)
  for rule in dualparal aligned; do
    awk -v r=$rule -v p=$precision -v s="$(median <"$scratch/$rule.$precision")" -v b=$published -v g=${gflop[$rule]} \
      -v k="$peak" 'BEGIN {printf "%-10s %-9s %10.2f %9.1f  %5.1f %%   %.2f\n", r, p, s, g / s, 100 * g / s / k, b / s}'
  done
done
awk -v d="$(median <"$scratch/dualparal.f32")" -v a="$(median <"$scratch/aligned.f32")" \
  'BEGIN {printf "aligned over dualparal, f32: %.2f\n", d / a}'
