#!/usr/bin/env bash
# seams.sh [PICTURE.svg] [JSON]: block borders of the demo model under the four context rules, six prompts each,
# 401 frames in blocks of 4 latent frames with an overlap of 4. Figure: border over elsewhere <= 1.1 for aligned
# and dualparal.
set -euo pipefail
source "$(dirname "$0")/runs.sh"
picture=${1:-$scratch/seams.svg}
json=${2:-$scratch/seams.json}
prompts=("a red circle moving right on a black background" "a blue square moving left on a white background"
  "a green triangle rising on a grey background" "a yellow star falling on a blue gradient"
  "a purple circle moving up and to the right on black" "a cyan square moving in a circle over a meadow")
arguments=()
for rule in aligned dualparal causal isolated; do
  runs=""
  for i in "${!prompts[@]}"; do
    generate 2 "$root/configs/demo/run.yaml" --prompt "${prompts[$i]}" --block 4 --overlap 4 \
      --context-rule $rule --seed $((i + 1)) --threads 1 --latents-only
    mv "$scratch/run" "$scratch/$rule.$i"
    runs+=${runs:+,}$scratch/$rule.$i
  done
  arguments+=("$rule=$runs")
done
"$(dirname "$MAKE_MODEL")/seams" "$root/configs/demo/model" "$picture" "$json" "${arguments[@]}"
