#!/usr/bin/env bash
# bench channel under mpirun: rows of the mpi channel between ranks 0 and 1, then of loopback; once, by rank 0.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

timeout 120 mpirun -n 3 --oversubscribe --bind-to none "$LONGTAKE_BINARY" bench channel --repeat 1 \
  --json "$folder/rows.json" >"$folder/table"
for channel in mpi loopback; do
  rows=$(grep -c "\"channel\": \"$channel\"" "$folder/rows.json")
  [ "$rows" -eq 9 ] || { echo "$channel: expected 9 rows, found $rows"; exit 1; }
done
[ "$(grep -c '^  ' "$folder/table")" -eq 18 ] || { cat "$folder/table"; exit 1; }
