#!/usr/bin/env bash
# The real binary under mpirun: the same latents_sha256 on any number of ranks, branches and threads.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

hash_of() {  # ranks threads flags...
  local ranks=$1 threads=$2 run=$folder/run
  shift 2
  rm -rf "$run"
  timeout 120 mpirun -n "$ranks" --oversubscribe --bind-to none "$LONGTAKE_BINARY" generate \
    "$LONGTAKE_SOURCE_DIR/configs/demo/short.yaml" --num-frames 93 --steps 6 --block 4 --overlap 2 --latents-only \
    --threads "$threads" -q --deadline 60 -o "$run" "$@" >"$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    return 1
  }
  sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$run/report.json"
}

failed=0
for rule in aligned dualparal causal isolated; do
  for precision in f32 bf16; do
    expected=$(hash_of 1 1 --context-rule $rule --precision $precision)
    [ ${#expected} -eq 64 ] || { echo "no hash from one rank: '$expected'"; exit 1; }
    for layout in "2 1" "2 2" "3 1" "4 2" "6 1" "8 1"; do
      found=$(hash_of $layout --context-rule $rule --precision $precision)
      if [ "$found" != "$expected" ]; then
        echo "$rule $precision, ranks and threads $layout: expected $expected, found $found"
        failed=1
      fi
    done
    found=$(hash_of 2 1 --context-rule $rule --precision $precision --stages 2 --branches 1)
    [ "$found" = "$expected" ] || { echo "$rule $precision, 2 stages: expected $expected, found $found"; failed=1; }
    echo "$rule $precision: 8 layouts, $expected"
  done
done
exit $failed
