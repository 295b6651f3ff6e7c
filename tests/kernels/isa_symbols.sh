#!/usr/bin/env bash
# isa_symbols.sh NM NAMESPACE OBJECT...: an object that is compiled for one instruction set may define
# global symbols in its own namespace only, and none that the linker merges with another object's (weak:
# inline functions and templates of shared headers): the copy that is kept could hold instructions that
# the processor lacks.
set -euo pipefail
nm=$1 namespace=$2
shift 2

own="8longtake3cpu${#namespace}${namespace}" # as it is mangled
table=$("$nm" --defined-only --extern-only "$@" | awk 'NF == 3 { print $2, $3 }')
wrong=$(awk -v own="$own" '$1 !~ /^[TDRB]$/ || !index($2, own)' <<<"$table")
if ! grep -q "$own" <<<"$table"; then
  echo "$namespace: no symbol of longtake::cpu::$namespace in: $*"
  exit 1
fi
if [ -n "$wrong" ]; then
  echo "$namespace: weak symbols, or symbols of other namespaces:"
  c++filt <<<"$wrong"
  exit 1
fi
echo "$namespace: $(wc -l <<<"$table") global symbols, none weak"
