#!/usr/bin/env bash
# The channels' contract between processes, on 2, 3 and 5 ranks.
set -euo pipefail
source "$LONGTAKE_SOURCE_DIR/launch/mpi_environment.sh"
program=$(dirname "$LONGTAKE_BINARY")/tests/mpi_channel
for arguments in "2 large" 3 5; do
  # shellcheck disable=SC2086
  timeout 120 mpirun -n "${arguments%% *}" --oversubscribe --bind-to none "$program" $arguments
done
