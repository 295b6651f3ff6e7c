# Sourced by the scripts beside it: runs of the binary, and medians over them.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
source "$root/launch/mpi_environment.sh"
LONGTAKE=${LONGTAKE:-$root/build/release/longtake}
MAKE_MODEL=${MAKE_MODEL:-$(dirname "$LONGTAKE")/tests/make_model}
ROUNDS=${ROUNDS:-3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# generate RANKS CONFIG... : one run in $scratch/run. Ranks are not bound, so that the last one decodes the end of the
# video with every core.
generate() {
  local ranks=$1 start=()
  shift
  rm -rf "$scratch/run"
  [ "$ranks" -eq 1 ] || start=(mpirun -n "$ranks" --bind-to none)
  [ "$ranks" -le "$(nproc)" ] || start=(mpirun -n "$ranks" --oversubscribe --bind-to none)
  "${start[@]}" "$LONGTAKE" generate "$@" -q -o "$scratch/run" >"$scratch/log" 2>&1 || {
    cat "$scratch/log" >&2
    return 1
  }
}

# value KEY : a number of the last run's report, "seconds" keys without their section
value() { sed -n "s/.*\"$1\": \([-0-9.e]*\),*$/\1/p" "$scratch/run/report.json" | head -1; }

# Seconds of denoising that the plan of the last run predicted.
predicted() {
  awk -F'[:,]' '/"predicted"/ {p = 1} p && /"denoise"/ {print $2 + 0; exit}' "$scratch/run/report.json"
}

median() { sort -g | awk '{v[NR] = $1} END {print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2}'; }
