#!/usr/bin/env bash
# Attention workers of the real binary: the same latents_sha256 with any number of them on any number of ranks, while
# they join, leave and are killed; what a worker says when it cannot join.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
export LONGTAKE_LEAST_WORKER_WORK=0  # the demo model's attention is tiny
folder=$(mktemp -d)
trap 'pkill -9 -f "$folder" 2>/dev/null || true; rm -rf "$folder"' EXIT
run=$folder/run
address=$run/workers.addr
failed=0

fail() {
  echo "$*"
  failed=1
}

# RANKS FLAGS... in $run, its messages in $folder/log
generate() {
  local ranks=$1 start=()
  shift
  [ "$ranks" -eq 1 ] || start=(mpirun -n "$ranks" --oversubscribe --bind-to none)
  ${start[@]+"${start[@]}"} "$LONGTAKE_BINARY" generate "$LONGTAKE_SOURCE_DIR/configs/demo/short.yaml" --threads 1 \
    --latents-only --no-progress --deadline 60 -o "$run" "$@" >"$folder/log" 2>&1
}

value() { sed -n "s/.*\"$1\": \"\{0,1\}\([-0-9a-z.]*\)\"\{0,1\},*$/\1/p" "$run/report.json" | head -1; }

# WHAT: the run ended well and has the expected hash
check() {
  local found
  found=$(value latents_sha256)
  [ "$found" = "$expected" ] || { fail "$1: expected $expected, found $found"; tail -5 "$folder/log"; return 0; }
  echo "$1: the same latents, $(value pieces_away) pieces away"
}

small=(--size 128x128 --num-frames 77 --steps 4 --block 4 --overlap 2)
away=0
for precision in f32 bf16; do
  for ranks in 1 2; do
    rm -rf "$run"
    generate "$ranks" "${small[@]}" --precision $precision || { cat "$folder/log"; exit 1; }
    [ "$ranks" -eq 2 ] || expected=$(value latents_sha256)
    for workers in 1 2 4; do
      rm -rf "$run"
      generate "$ranks" "${small[@]}" --precision $precision --workers $workers || { cat "$folder/log"; exit 1; }
      check "$precision, $ranks ranks, $workers workers"
      away=$((away + $(value pieces_away)))
      [ ! -e "$address" ] || fail "the address file is left behind"
    done
  done
done
aligned=$expected

# Context of a finished neighbour stays the same: its keys are sent once.
resident=0
for ranks in 1 2; do
  rm -rf "$run"
  causal=("${small[@]}" --context-rule causal --stagger 4 --precision bf16)
  generate "$ranks" "${causal[@]}" || { cat "$folder/log"; exit 1; }
  expected=$(value latents_sha256)
  rm -rf "$run"
  generate "$ranks" "${causal[@]}" --workers 2 || { cat "$folder/log"; exit 1; }
  check "causal, $ranks ranks, 2 workers"
  resident=$((resident + $(value resident_bytes)))
done
[ $resident -gt 0 ] || fail "keys that come again were sent again"
expected=$aligned

# Ranks that compute for each other while they wait, without and with workers beside them.
for setting in "2" "3" "4 --branches 2" "2 --workers 1" "2 --transport loopback --stages 2 --branches 1"; do
  rm -rf "$run"
  read -r ranks flags <<<"$setting"
  [[ $flags != *loopback* ]] || ranks=1
  # shellcheck disable=SC2086
  generate "$ranks" "${small[@]}" --precision bf16 --serve-attention on $flags || { cat "$folder/log"; exit 1; }
  check "ranks serve each other: $setting"
done

[ $away -gt 0 ] || fail "the workers got nothing to do"  # in one run a worker may come too late
if pgrep -f "worker --connect $address" >/dev/null; then fail "workers outlive their run"; fi

# Workers from outside come and go while the run goes on: killed, stopped, asked to leave.
long=(--size 128x128 --num-frames 201 --steps 8)
rm -rf "$run"
generate 2 "${long[@]}" || { cat "$folder/log"; exit 1; }
expected=$(value latents_sha256)
rm -rf "$run"
generate 2 "${long[@]}" --accept-workers on &
job=$!
for _ in $(seq 600); do [ ! -e "$address" ] || break; sleep 0.05; done
[ "$(stat -c %a "$address")" = 600 ] || fail "address file: expected mode 600, found $(stat -c %a "$address")"
count=0
while kill -0 $job 2>/dev/null; do
  "$LONGTAKE_BINARY" worker --connect "$address" --wait 0 --threads 1 >"$folder/worker.$count" 2>&1 &
  worker=$!
  disown $worker  # no messages about its end
  sleep 0.$((RANDOM % 5 + 2))
  case $((count % 3)) in
    0) kill -KILL $worker 2>/dev/null || true ;;
    1) kill -TERM $worker 2>/dev/null || true ;;
    2) kill -STOP $worker 2>/dev/null || true ;;
  esac
  count=$((count + 1))
done
wait $job || { cat "$folder/log"; exit 1; }
check "$count workers that join, are killed, leave and stop"
[ "$(value workers)" -gt 0 ] && [ "$(value pieces_away)" -gt 0 ] || fail "no worker joined and got something to do"
pkill -KILL -f "worker --connect $address" || true

refused() {  # WHAT EXPECTED_CODE PATTERN ARGUMENTS...
  local what=$1 expected_code=$2 pattern=$3 code=0
  shift 3
  timeout 60 "$LONGTAKE_BINARY" worker "$@" >"$folder/log" 2>&1 || code=$?
  if [ $code -ne "$expected_code" ] || ! grep -q -- "$pattern" "$folder/log"; then
    fail "$what: expected code $expected_code and '$pattern', found $code and: $(cat "$folder/log")"
  else
    echo "$what: $(head -1 "$folder/log")"
  fi
}
refused "a run that is over" 66 "the run is over" --connect "$address" --wait 0
refused "another file" 65 "line 1: expected .token." --connect "$run/COMMIT" --wait 100  # at once

# kill -9 of the ranks: the workers that they started end as well. The address file stays, of nobody. A worker that waits
# meanwhile joins when the run is resumed.
workers_of_run() { pgrep -f "worker --connect $address" || true; }
await() {  # TENTHS_OF_SECONDS COMMAND...
  local left=$1
  shift
  until "$@"; do
    [ $((left--)) -gt 0 ] || return 1
    sleep 0.1
  done
}
has_workers() { [ "$(workers_of_run | wc -l)" -eq "$1" ]; }
in_progress() { [ -e "$run/out/b00000001.h5" ]; }
kill_ranks() {
  local process
  for process in $(pgrep -x longtake); do
    if tr '\0' '\n' <"/proc/$process/cmdline" 2>/dev/null | grep -qxF "$run"; then kill -KILL "$process"; fi
  done
}
# With a rank's sockets in a worker's hands the others would not see at once that it is gone.
open_files() { find "/proc/$1/fd" -type l ! -name '[012]' -printf '%l\n' | grep -v '^anon_inode' | sort -u; }
shared_files() {
  local worker rank
  for worker in $(workers_of_run); do
    for rank in $(pgrep -x longtake); do comm -12 <(open_files "$worker") <(open_files "$rank"); done
  done
}
for ranks in 1 2; do
  rm -rf "$run"
  generate "$ranks" "${long[@]}" --checkpoint-every 1 --workers 2 &
  job=$!
  await 600 in_progress || fail "$ranks ranks with workers make no blocks"
  has_workers 2 || fail "expected 2 workers of $ranks ranks, found: $(workers_of_run)"
  [ -z "$(shared_files)" ] || fail "workers hold files of their ranks: $(shared_files)"
  kill_ranks
  if wait $job; then fail "$ranks ranks were over before they were killed"; fi
  await 50 has_workers 0 || { fail "workers outlive $ranks killed ranks"; workers_of_run | xargs kill -KILL; }
done
refused "a run that was killed" 74 "is over or cannot be reached" --connect "$address" --wait 0
"$LONGTAKE_BINARY" worker --connect "$address" --wait 60 --threads 1 >"$folder/late" 2>&1 &
late=$!
await 100 grep -q "waiting up to 60 s" "$folder/late" || fail "a worker does not wait: $(cat "$folder/late")"
mpirun -n 2 --oversubscribe --bind-to none "$LONGTAKE_BINARY" resume "$run" --accept-workers on --threads 1 \
  --no-progress --deadline 60 >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
check "a run that was killed, resumed, and joined"
wait $late || fail "the worker that waited: code $?"
grep -q "joined 2 ranks" "$folder/late" || fail "the worker that waited did not join: $(cat "$folder/late")"

# One that has joined already comes again.
rm -rf "$run"
generate 2 "${long[@]}" --checkpoint-every 1 --accept-workers on &
job=$!
await 600 test -e "$address" || fail "no address file"
"$LONGTAKE_BINARY" worker --connect "$address" --wait 60 --threads 1 >"$folder/again" 2>&1 &
again=$!
await 600 in_progress || fail "no blocks are made"
await 100 grep -q "joined 2 ranks" "$folder/again" || fail "a worker does not join: $(cat "$folder/again")"
kill_ranks
if wait $job; then fail "2 ranks were over before they were killed"; fi
await 100 grep -q "waiting up to 60 s" "$folder/again" || fail "a worker does not wait: $(cat "$folder/again")"
mpirun -n 2 --oversubscribe --bind-to none "$LONGTAKE_BINARY" resume "$run" --accept-workers on --threads 1 \
  --no-progress --deadline 60 >"$folder/log" 2>&1 || { cat "$folder/log"; exit 1; }
check "a run that was killed, resumed, and joined again"
wait $again || fail "the worker that came again: code $?"
[ "$(grep -c "joined 2 ranks" "$folder/again")" -eq 2 ] || fail "it did not come again: $(cat "$folder/again")"

# What cannot be.
refused "no file" 66 "workers.addr" --connect "$folder/none/workers.addr" --wait 0
printf 'longtake workers\nnonsense\n' >"$folder/bad.addr"
chmod 600 "$folder/bad.addr"
refused "not an address file" 65 "bad.addr" --connect "$folder/bad.addr" --wait 0
chmod 644 "$folder/bad.addr"
refused "a secret that others may read" 65 "600" --connect "$folder/bad.addr" --wait 0
refused "no --connect" 2 "--connect" --wait 0
exit $failed
