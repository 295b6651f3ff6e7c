#!/usr/bin/env bash
# The crash tests in their full numbers, one after the other, and a Markdown table of what was reached. A part that
# does not end within its share is cut off and the table says so.
#   ./launch/build.sh && tests/crash/full.sh [SECONDS_PER_PART] >table.md       (default 3600)
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/launch/mpi_environment.sh"
share=${1:-3600}
build=${BUILD:-$root/build/release}
export LONGTAKE_SOURCE_DIR=$root LONGTAKE_BINARY=$build/longtake
CRASH_SHIM=$(echo "$build"/tests/crash/*crash_shim.so)
export CRASH_SHIM
[ -d /dev/shm ] && export TMPDIR=/dev/shm
log=$(mktemp)
trap 'rm -f "$log"*' EXIT
machine=$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)
findings=0

# WHAT COMMAND... : a line of the table; the command's own words are the number. With `each` for WHAT's first word the
# command is run once per core, as shares of the whole.
part() {
  local what=$1 shares=1 code=0 start=$SECONDS share_of=() jobs=() reached="" i
  shift
  if [ "$what" = each ]; then
    what=$1 shares=$(nproc)
    shift
  fi
  for ((i = 0; i < shares; ++i)); do
    [ "$shares" -eq 1 ] || share_of=("$i/$shares")
    timeout --kill-after=30 "$share" "$@" ${share_of[@]+"${share_of[@]}"} >"$log.$i" 2>&1 &
    jobs+=($!)
  done
  for ((i = 0; i < shares; ++i)); do
    local one=0
    wait "${jobs[$i]}" || one=$?
    cat "$log.$i" >&2
    if [ $one -eq 124 ]; then reached+="not done within $share s; "; else reached+="$(tail -n 1 "$log.$i"); "; fi
    [ $one -eq 0 ] || code=$one
  done
  reached=${reached%; }
  if [ $code -ne 0 ]; then
    reached="**failed** (code $code): $reached"
    findings=1
  fi
  echo "| $what | $reached | $((SECONDS - start)) s | $(date -u +%F) | $machine, $(nproc) cores |"
}

crash=$build/tests/crash/crash
seed=$(date +%s)
echo "| what | reached | took | date | machine |"
echo "|---|---|---|---|---|"
part "kill -9 at random moments, same hash after it goes on" "$crash" kill_random "${KILLS:-1000}" "$seed"
part "requests to stop at random moments, exit code 75, the same hash" "$crash" stop_random "${STOPS:-500}" "$seed"
part each "kill -9 before, within and after every file call of 40 blocks" "$crash" kill_calls "${EVERY:-1}"
part each "the same of a run that is made longer by 34 blocks" "$crash" kill_longer "${EVERY:-1}"
part each "EIO, ENOSPC, EDQUOT and short writes at every file call" "$crash" inject_errors "${EVERY:-1}"
part "simulated power cuts" "$crash" power_loss "${IMAGES:-20000}" "$seed"
for fsync in file folder log; do
  part "the same without fsync of the $fsync: must be seen" "$crash" power_loss 500 "$seed" "$fsync"
done
part "spoilt files" "$crash" corrupt_files "${FILES:-100000}" "$seed"
part "rank counts, killed on one and gone on with another" "$crash" rank_counts "${PAIRS:-36}" "$seed"
part "SIGSTOP of a rank and of writers, deadline 3 s" "$root/tests/crash/stops.sh"
exit $findings
