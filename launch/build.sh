#!/usr/bin/env bash
# Configures and builds a CMake preset: ./launch/build.sh [PRESET], by default `release`.
# Ends with the binary build/PRESET/longtake.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "${LONGTAKE_JOBS:-$(nproc)}"
