#!/usr/bin/env bash
# Attention workers on the CPU, one core each, on an attention-heavy shape (dim 384, 3 heads of 128, windows of 4,096
# tokens and more): one rank and one worker against one rank alone, what was predicted, what it costs to be open to
# workers when none comes, and two uneven stages with and without serving each other. Settings are interleaved;
# medians over ROUNDS. With --json FILE also as JSON.
#   ROUNDS=5 [FRAMES=81] [STEPS=4] [UNEVEN_FRAMES=145] tests/bench/workers.sh [--json FILE]
set -euo pipefail
source "$(dirname "$0")/runs.sh"
json=
[ "${1:-}" != --json ] || json=$2

# Layers are cut within a layer to even out the stages; three of them in one guidance branch leave the most to even out.
"$MAKE_MODEL" "$scratch/model" heads=3 head_dim=128 ffn=1536 layers=8 text_dim=256 >/dev/null
"$MAKE_MODEL" "$scratch/three" heads=3 head_dim=128 ffn=1536 layers=3 text_dim=256 >/dev/null
run_of() {  # MODEL RANKS FLAGS...
  local model=$scratch/$1 ranks=$2
  shift 2
  generate "$ranks" --model "$model" --prompt-embeds "$model/embeds.safetensors" --latents-only --size 256x256 \
    --block 8 --overlap 4 --seed 1 --threads 1 --precision "$precision" "$@"
}
keep() { for key in "${@:2}"; do value "$key" >>"$scratch/$precision.$1.$key"; done; }
of() { median <"$scratch/$precision.$1.$2"; }
same_latents() {
  local found
  found=$(sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$scratch/run/report.json")
  [ -e "$scratch/$precision.$1.hash" ] || echo "$found" >"$scratch/$precision.$1.hash"
  [ "$found" = "$(cat "$scratch/$precision.$1.hash")" ] || { echo "workers.sh: other latents with $2" >&2; exit 1; }
}
waits() {  # seconds of waiting that are left to rank $1: without those in which it served others
  awk -v rank="$1" -F'[:,]' '/"rank":/ {r = $2 + 0} r == rank && /"wait_s"/ {w = $2}
    r == rank && /"served_s"/ {s = $2} END {print w - s}' "$scratch/run/report.json"
}

[ -z "$json" ] || echo '{"name": "workers", "rows": [' >"$json"
separator=
for precision in f32 bf16; do
  for _ in $(seq "$ROUNDS"); do
    for workers in 0 1; do
      run_of model 1 --num-frames "${FRAMES:-81}" --steps "${STEPS:-4}" --guidance-scale 5 --workers $workers
      same_latents visits "$workers workers"
      keep w$workers denoise
      predicted >>"$scratch/$precision.w$workers.predicted"
      [ $workers -eq 0 ] || keep w1 hidden_share
    done
    run_of model 1 --num-frames "${FRAMES:-81}" --steps "${STEPS:-4}" --guidance-scale 5 --accept-workers on
    keep open denoise
    for serve in off on; do
      run_of three 2 --num-frames "${UNEVEN_FRAMES:-145}" --steps 8 --guidance-scale 1 --stages 2 --serve-attention $serve
      same_latents stages "serving $serve"
      keep serve_$serve denoise
      for rank in 0 1; do waits $rank; done >"$scratch/both"
      sort -g "$scratch/both" | tail -1 >>"$scratch/$precision.serve_$serve.wait"
    done
  done
  awk -v p=$precision -v a="$(of w0 denoise)" -v b="$(of w1 denoise)" -v pa="$(of w0 predicted)" -v pb="$(of w1 predicted)" \
    -v h="$(of w1 hidden_share)" -v o="$(of open denoise)" -v s0="$(of serve_off denoise)" -v s1="$(of serve_on denoise)" \
    -v i0="$(of serve_off wait)" -v i1="$(of serve_on wait)" -v json="$json" -v sep="$separator" 'BEGIN {
    printf "%s\n", p
    printf "  one rank alone                        %8.2f s   predicted %8.2f s\n", a, pa
    printf "  one rank and one worker               %8.2f s   predicted %8.2f s\n", b, pb
    printf "  speed-up                              %8.2f     predicted %8.2f   reached %.1f %% of it, %.1f %% hidden\n",
      a / b, pa / pb, 100 * (a / b) / (pa / pb), 100 * h
    printf "  open to workers, none came            %8.2f s   %+.2f %%\n", o, 100 * (o / a - 1)
    printf "  two uneven stages                     %8.2f s   the lighter one waits %.2f s\n", s0, i0
    printf "  two uneven stages that serve          %8.2f s   the lighter one waits %.2f s, %.0f %% less\n", s1, i1,
      100 * (1 - i1 / i0)
    if (json != "") printf "%s{\"precision\": \"%s\", \"alone_s\": %g, \"worker_s\": %g, \"speedup\": %g, \"predicted_speedup\": %g, \"hidden_share\": %g, \"open_s\": %g, \"uneven_s\": %g, \"uneven_wait_s\": %g, \"served_s\": %g, \"served_wait_s\": %g}\n",
      sep, p, a, b, a / b, pa / pb, h, o, s0, i0, s1, i1 >>json
  }'
  separator=,
done
[ -z "$json" ] || echo ']}' >>"$json"
