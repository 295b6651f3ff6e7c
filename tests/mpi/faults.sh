#!/usr/bin/env bash
# A rank that dies or stops: the job ends by the deadline + 10 s, never hangs, and a stopped rank is named
# with the instruction that waited for it.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
folder=$(mktemp -d)
trap 'pkill -KILL -f "generate.*$folder" || true; rm -rf "$folder"' EXIT
deadline=3

# signal, expected text or empty
try() {
  local signal=$1 text=$2 run=$folder/$1
  timeout 60 mpirun -n 3 --oversubscribe --bind-to none "$LONGTAKE_BINARY" generate \
    "$LONGTAKE_SOURCE_DIR/configs/demo/run.yaml" --num-frames 4001 --latents-only --threads 1 --stages 3 \
    --branches 1 --deadline $deadline --no-progress -o "$run" >"$folder/log" 2>&1 &
  local job=$! victim="" code=0 start
  for _ in $(seq 100); do
    [ -e "$run/out/b00000000.h5" ] && break
    sleep 0.1
  done
  victim=$(pgrep -f "longtake generate.*$run" | grep -v "$(pgrep -f "mpirun.*$run" | head -1)" | sed -n 2p)
  start=$SECONDS
  kill "-$signal" "$victim"
  wait $job || code=$?
  local took=$((SECONDS - start))
  echo "SIG$signal: code $code after $took s"
  tail -n 3 "$folder/log" | sed 's/^/  /'
  [ $code -ne 0 ] || { echo "SIG$signal of a rank: expected a failure, the job succeeded"; return 1; }
  [ $took -le $((deadline + 10)) ] || { echo "SIG$signal: the job ended after $took s"; return 1; }
  if [ -n "$text" ]; then
    grep -Eq "$text" "$folder/log" || { echo "SIG$signal: no message like '$text'"; cat "$folder/log"; return 1; }
    [ $code -eq 86 ] || { echo "SIG$signal: expected exit code 86, found $code"; return 1; }
  fi
}

try KILL ""
try STOP "rank [0-9]/3: (recv|send|all ranks).*nothing from rank [0-9].* in flight: rank 0: .*no answer"
