#!/usr/bin/env bash
# Stopping on request under mpirun: a commit, exit code 75, and the same latents when the run goes on, also on
# another number of ranks. A second SIGINT to a rank ends it at once. No signal interrupts a thread that computes.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
run=$folder/run
flags=(--num-frames 301 --steps 12 --latents-only --threads 1 --stages 2 --branches 1 --deadline 60 --no-progress)

generate() {  # environment and flags: NAME=value ... --flag ...
  local settings=()
  while [[ ${1:-} == *=* && $1 != -* ]]; do
    settings+=("$1")
    shift
  done
  exec env ${settings[@]+"${settings[@]}"} timeout 120 mpirun -n 2 --oversubscribe --bind-to none "$LONGTAKE_BINARY" \
    generate "$LONGTAKE_SOURCE_DIR/configs/demo/run.yaml" "${flags[@]}" "$@" -o "$run"
}

hash_of() {
  sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$1/report.json"
}

ranks() {
  pgrep -f "^$LONGTAKE_BINARY generate.*$run\$" || true
}

await_blocks() {
  for _ in $(seq 300); do
    [ -e "$run/out/b00000001.h5" ] && return
    sleep 0.1
  done
  echo "no block within 30 s"
  cat "$folder/log"
  return 1
}

# name, code, expected reason, ranks that the run goes on with, their flags
finish() {
  local name=$1 code=$2 reason=$3 count=$4 committed
  shift 4
  grep '^stopped\|^longtake:' "$folder/log" || true
  [ "$code" -eq 75 ] || { echo "$name: expected exit code 75, found $code"; cat "$folder/log"; return 1; }
  grep -q "^stopped ($reason)" "$folder/log" || { echo "$name: no 'stopped ($reason)'"; cat "$folder/log"; return 1; }
  committed=$("$LONGTAKE_BINARY" info "$run" | sed -n 's/^blocks *\([0-9]*\) committed.*/\1/p')
  timeout 120 mpirun -n "$count" --oversubscribe --bind-to none "$LONGTAKE_BINARY" resume "$run" --threads 1 \
    --stages "$count" --branches 1 --no-progress "$@" >"$folder/log" 2>&1 || { cat "$folder/log"; return 1; }
  grep -q "going on with $committed blocks" "$folder/log" || { echo "$name: began anew"; cat "$folder/log"; return 1; }
  [ "$(hash_of "$run")" = "$expected" ] || { echo "$name: expected $expected, found $(hash_of "$run")"; return 1; }
  echo "$name: exit code 75 with $committed blocks, the same latents with $count ranks"
}

# signal, to whom, the reason that is said
stopped_by_signal() {
  local code=0 to=$2 job
  rm -rf "$run"
  generate >"$folder/log" 2>&1 &
  job=$!
  await_blocks
  case $to in
    rank) kill "-$1" "$(ranks | sed -n 2p)" ;;
    ranks) ranks | xargs kill "-$1" ;;
    mpirun) kill "-$1" "$(pgrep -P "$job" || echo "$job")" ;;
  esac
  wait $job || code=$?
  finish "SIG$1 to $to" $code "SIG$1" 3
}

# SIGINT, SIGUSR1 and SIGTERM have no handler, and are blocked in every thread but the one that waits for them:
# oneDNN's stack pointer may point into the heap, where a handler's frame would be written.
check_signals() {  # rank
  local task catches blocks mask=0x4202 open=()
  for task in "/proc/$1/task"/*; do
    catches=$(sed -n 's/^SigCgt:\t//p' "$task/status")
    blocks=$(sed -n 's/^SigBlk:\t//p' "$task/status")
    [ $((16#$catches & mask)) -eq 0 ] || { echo "$task: a handler of signals $catches"; return 1; }
    [ $((16#$blocks & mask)) -eq $((mask)) ] || open+=("$(basename "$task")")
  done
  [ ${#open[@]} -eq 1 ] && [ "${open[0]}" != "$1" ] || {
    echo "rank $1: expected one thread that takes signals, found: ${open[*]}"
    return 1
  }
}

# As many signals as can be sent.
storm() {
  local code=0 job all rank
  rm -rf "$run"
  generate --stages 1 --branches 2 >"$folder/log" 2>&1 &
  job=$!
  await_blocks
  all=$(ranks)
  for rank in $all; do
    check_signals "$rank"
  done
  # shellcheck disable=SC2086
  while kill -USR1 $all 2>/dev/null; do :; done
  wait $job || code=$?
  finish "SIGUSR1 again and again" $code SIGUSR1 2
}

# The first stage stops while the last one has still more latents to send it than a channel holds.
loopback() {
  local code=0 job
  rm -rf "$run"
  timeout 120 "$LONGTAKE_BINARY" generate "$LONGTAKE_SOURCE_DIR/configs/demo/run.yaml" "${flags[@]}" \
    --transport loopback -o "$run" >"$folder/log" 2>&1 &
  job=$!
  await_blocks
  kill -USR1 "$(ranks)"
  wait $job || code=$?
  finish "two stages as threads" $code SIGUSR1 2
}

stopped_by_limit() {  # name, reason, environment and flags
  local name=$1 reason=$2 code=0
  shift 2
  rm -rf "$run"
  (generate "$@") >"$folder/log" 2>&1 || code=$?
  finish "$name" $code "$reason" 1 --maxh 0
}

# Within a second it is the same request, passed on by several; later it is impatience.
second_signal() {
  local code=0 job rank start
  rm -rf "$run"
  generate --num-frames 4001 >"$folder/log" 2>&1 &
  job=$!
  await_blocks
  rank=$(ranks | sed -n 1p)
  kill -STOP "$(ranks | sed -n 2p)" # so that it cannot stop at a commit
  kill -INT "$rank"
  kill -INT "$rank"
  sleep 1.5
  kill -0 "$rank" || { echo "two SIGINT at once: the rank is gone"; cat "$folder/log"; return 1; }
  start=$SECONDS
  kill -INT "$rank"
  wait $job || code=$?
  [ $code -eq 130 ] || { echo "second SIGINT: expected exit code 130, found $code"; cat "$folder/log"; return 1; }
  [ $((SECONDS - start)) -le 5 ] || { echo "second SIGINT: ended after $((SECONDS - start)) s"; return 1; }
  echo "second SIGINT: exit code 130 after $((SECONDS - start)) s"
}

rm -rf "$run"
(generate -q) >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
expected=$(hash_of "$run")
[ ${#expected} -eq 64 ] || { echo "no hash: '$expected'"; exit 1; }

stopped_by_signal TERM rank
stopped_by_signal INT ranks
stopped_by_signal USR1 rank
stopped_by_signal USR1 mpirun
storm
loopback
stopped_by_limit --maxh --maxh --maxh 0.0006
stopped_by_limit SLURM_JOB_END_TIME "end of the batch job" "SLURM_JOB_END_TIME=$(($(date +%s) + 2))"
second_signal
