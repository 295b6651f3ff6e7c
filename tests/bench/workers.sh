#!/usr/bin/env bash
# Attention workers on the CPU, one core each, on an attention-heavy shape (dim 384, 3 heads of 128, windows of 4,096
# tokens): one rank and one worker against one rank alone, what was predicted, and what it costs to be open to workers
# when none comes. Settings are interleaved; medians over ROUNDS. With --json FILE also as JSON. Ranks that serve each
# other: uneven.sh.
#   ROUNDS=5 [FRAMES=81] [STEPS=4] tests/bench/workers.sh [--json FILE]
set -euo pipefail
source "$(dirname "$0")/runs.sh"
json=
[ "${1:-}" != --json ] || json=$2

"$MAKE_MODEL" "${scratch:?}/model" heads=3 head_dim=128 ffn=1536 layers=8 text_dim=256 >/dev/null
run() {  # FLAGS...
  generate 1 --model "$scratch/model" --prompt-embeds "$scratch/model/embeds.safetensors" --latents-only --size 256x256 \
    --block 8 --overlap 4 --seed 1 --threads 1 --precision "$precision" --num-frames "${FRAMES:-81}" \
    --steps "${STEPS:-4}" --guidance-scale 5 "$@"
  sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$scratch/run/report.json" >>"$scratch/$precision.hashes"
}
keep() { for key in "${@:2}"; do value "$key" >>"$scratch/$precision.$1.$key"; done; }
of() { median <"$scratch/$precision.$1.$2"; }

[ -z "$json" ] || echo '{"name": "workers", "rows": [' >"$json"
separator=
for precision in f32 bf16; do
  for _ in $(seq "$ROUNDS"); do
    for workers in 0 1; do
      run --workers $workers
      keep w$workers denoise
      predicted >>"$scratch/$precision.w$workers.predicted"
      [ $workers -eq 0 ] || keep w1 hidden_share
    done
    run --accept-workers on
    keep open denoise
  done
  [ "$(sort -u "$scratch/$precision.hashes" | wc -l)" -eq 1 ] || { echo "workers.sh: the latents differ" >&2; exit 1; }
  awk -v p=$precision -v a="$(of w0 denoise)" -v b="$(of w1 denoise)" -v pa="$(of w0 predicted)" -v pb="$(of w1 predicted)" \
    -v h="$(of w1 hidden_share)" -v o="$(of open denoise)" -v json="$json" -v sep="$separator" 'BEGIN {
    printf "%s\n", p
    printf "  one rank alone                        %8.2f s   predicted %8.2f s\n", a, pa
    printf "  one rank and one worker               %8.2f s   predicted %8.2f s\n", b, pb
    printf "  speed-up                              %8.2f     predicted %8.2f   reached %.1f %% of it, %.1f %% hidden\n",
      a / b, pa / pb, 100 * (a / b) / (pa / pb), 100 * h
    printf "  open to workers, none came            %8.2f s   %+.2f %%\n", o, 100 * (o / a - 1)
    if (json != "") printf "%s{\"precision\": \"%s\", \"alone_s\": %g, \"worker_s\": %g, \"speedup\": %g, \"predicted_speedup\": %g, \"hidden_share\": %g, \"open_s\": %g}\n",
      sep, p, a, b, a / b, pa / pb, h, o >>json
  }'
  separator=,
done
[ -z "$json" ] || echo ']}' >>"$json"
