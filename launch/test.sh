#!/usr/bin/env bash
# Installs what is missing, builds, runs all tests. Arguments go to ctest: ./launch/test.sh -R stream
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/mpi_environment.sh

./launch/setup.sh --slurm
./launch/build.sh release
ctest --test-dir build/release --output-on-failure -j2 "$@"
