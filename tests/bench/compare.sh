#!/usr/bin/env bash
# compare.sh NAME [ARGUMENTS]: times a part of longtake and the same part in PyTorch, side by side.
# PYTHON is an interpreter that has torch (default: python3), LONGTAKE the binary to measure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${1:?expected the name of a comparison, for instance block}
shift
export LONGTAKE=${LONGTAKE:-$here/../../build/release/longtake}
[ -x "$LONGTAKE" ] || {
  echo "no program at $LONGTAKE: build it, or set LONGTAKE" >&2
  exit 66
}
python=${PYTHON:-python3}
"$python" -c 'import torch' 2>/dev/null || {
  echo "$python has no torch: nothing to compare with; set PYTHON to one that has it" >&2
  exit 66
}
exec "$python" "$here/$name.py" "$@"
