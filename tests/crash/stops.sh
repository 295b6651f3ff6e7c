#!/usr/bin/env bash
# A rank that stands still, and the rank that commits at the moment when its thread writes: the job ends by the
# deadline + 10 s with code 86, and the run goes on to the same hash.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
folder=$(mktemp -d)
job=""
trap '[ -z "$job" ] || kill -KILL -- "-$job" 2>/dev/null || true; rm -rf "$folder"' EXIT
deadline=3
flags=(--block 2 --overlap 1 --num-frames 601 --steps 4 --latents-only --checkpoint-every 1 --threads 1 --no-progress -q)

hash_of() { sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$1/report.json"; }
# The process of rank $1 of the run in $2.
process_of() {
  local id
  for id in $(pgrep -x longtake); do
    tr '\0' '\n' <"/proc/$id/cmdline" 2>/dev/null | grep -qxF "$2" || continue
    if tr '\0' '\n' <"/proc/$id/environ" 2>/dev/null | grep -qx "OMPI_COMM_WORLD_RANK=$1"; then echo "$id"; fi
  done
}

"$LONGTAKE_BINARY" generate "$LONGTAKE_SOURCE_DIR/configs/demo/short.yaml" "${flags[@]}" -o "$folder/whole"
expected=$(hash_of "$folder/whole")

# name rank pattern: stops the rank when a file like the pattern is there
stop() {
  local run=$folder/$1 rank=$2 pattern=$3 code=0 start victim
  set -m
  timeout 60 mpirun -n 3 --oversubscribe --bind-to none "$LONGTAKE_BINARY" generate \
    "$LONGTAKE_SOURCE_DIR/configs/demo/short.yaml" "${flags[@]}" --stages 3 --branches 1 --deadline $deadline \
    -o "$run" >"$folder/log" 2>&1 &
  job=$!
  set +m
  until [ -e "$run/out/b00000002.h5" ]; do kill -0 $job || break; done
  victim=$(process_of "$rank" "$run")
  until compgen -G "$run/$pattern" >/dev/null; do kill -0 $job || break; done
  [ -n "$victim" ] || { echo "$1: rank $rank is not found"; cat "$folder/log"; return 1; }
  kill -STOP "$victim"
  start=$SECONDS
  wait $job || code=$?
  job=""
  echo "$1: code $code after $((SECONDS - start)) s"
  [ $code -eq 86 ] || { echo "$1: expected code 86"; cat "$folder/log"; return 1; }
  [ $((SECONDS - start)) -le $((deadline + 10)) ] || { echo "$1: too late"; return 1; }
  "$LONGTAKE_BINARY" resume "$run" --threads 1 -q --no-progress
  [ "$(hash_of "$run")" = "$expected" ] || { echo "$1: another hash after it went on"; return 1; }
}

stop rank 0 "out/b00000006.h5"
stop writer 2 "out/.tmp.*"
stop state_writer 1 "state/.tmp.*"
