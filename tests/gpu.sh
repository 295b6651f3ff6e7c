#!/usr/bin/env bash
# All that needs a GPU: builds, runs the tests with the label `gpu` and the benches, writes one report.
#   tests/gpu.sh [--built BUILD_DIR] [--report FILE] [STEP...]
# STEP: operators golden exec channel ranks memcheck racecheck attention fused gemm block vae compare demo; by default all
# of them. compare needs a python3 with torch (or PYTHON).
# The report's table of steps comes last and says what failed; the exit code is that of the worst.
set -uo pipefail
cd "$(dirname "$0")/.."
source launch/mpi_environment.sh

build= report=
while [[ ${1:-} == --* ]]; do
  case $1 in
    --built) build=$2 ;;
    --report) report=$2 ;;
    *) echo "tests/gpu.sh: unknown flag $1" >&2; exit 2 ;;
  esac
  shift 2
done
steps=("$@")
[ $# -gt 0 ] || steps=(operators golden exec channel ranks memcheck racecheck attention fused gemm block vae compare demo)
if [ -z "$build" ]; then
  build=build/release
  ./launch/build.sh release || exit 1
fi
gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1)
[ -n "$gpu" ] || { echo "tests/gpu.sh: no GPU here (nvidia-smi says nothing)" >&2; exit 2; }
commit=${LONGTAKE_COMMIT:-$(git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)}
if [ -z "$report" ]; then
  name=$(cut -d, -f1 <<<"$gpu" | tr -c 'A-Za-z0-9\n' _)
  report=tests/bench/results/gpu-$name-$(date +%Y-%m-%d).md
fi
mkdir -p "$(dirname "$report")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export LONGTAKE_DEVICE=cuda LONGTAKE_SOURCE_DIR=$PWD LONGTAKE_BINARY=$PWD/$build/longtake
longtake=$LONGTAKE_BINARY

latents_of() {  # latents_of RUN: the hash in its report
  grep -o '"latents_sha256": "[0-9a-f]*"' "$1/report.json" | grep -o '[0-9a-f]\{64\}'
}

# One rank against two that share the GPU: the same latents. Messages go through the loopback.
ranks() {
  local common=(generate configs/demo/run.yaml --device cuda --latents-only --seed 1 -q)
  "$longtake" "${common[@]}" --output "$scratch/one" || return 1
  "$longtake" "${common[@]}" --output "$scratch/two" --transport loopback --stages 2 --branches 1 || return 1
  local one two
  one=$(latents_of "$scratch/one") two=$(latents_of "$scratch/two")
  echo "one rank $one, two ranks $two"
  [ ${#one} -eq 64 ] && [ "$one" = "$two" ]
}

demo() {
  "$longtake" generate configs/demo/run.yaml --device cuda --latents-only --seed 1 -q --output "$scratch/demo" &&
    cat "$scratch/demo/report.txt"
}

run_step() {
  case $1 in
    operators) "$build/tests/test_gpu" ;;
    golden) "$build/tests/test_golden" ;;
    exec) "$build/tests/test_exec" ;;
    channel) "$build/tests/gpu_channel_pair" ;;
    ranks) ranks ;;
    memcheck) compute-sanitizer --tool memcheck --error-exitcode 3 "$build/tests/test_gpu" ;;
    racecheck) compute-sanitizer --tool racecheck --error-exitcode 3 "$build/tests/test_gpu" --test-case="gpu small*" ;;
    attention) "$build/tests/gpu_bench_attention" 12 128 5 4096 16384 32760 75600 110000 ;;
    fused) "$build/tests/gpu_bench_fused" ;;
    gemm) "$build/tests/gpu_bench_gemm" ;;
    block) "$longtake" bench block --device cuda --dtype bf16 --tokens 32760 --repeat 5 ;;
    vae) "$longtake" bench vae --device cuda --dtype bf16 --width 832 --height 480 --frames 81 ;;
    compare) LONGTAKE=$longtake tests/bench/compare.sh block --device cuda --dtype bf16 --tokens 32760 --repeat 5 --rounds 3 ;;
    demo) demo ;;
    *) echo "unknown step $1"; return 2 ;;
  esac
}

worst=0 table=
{
  echo "# GPU report: $gpu"
  echo
  echo "$(date -u +%Y-%m-%d), commit $commit, $("$longtake" --version 2>/dev/null | head -1)"
} >"$report"
for step in "${steps[@]}"; do
  start=$SECONDS
  timeout "${LONGTAKE_STEP_LIMIT:-600}" bash -c "$(declare -f run_step ranks demo latents_of); $(declare -p build longtake scratch); run_step $step" \
    >"$scratch/$step.log" 2>&1
  code=$?
  [ $code -eq 0 ] || worst=1
  table+="| $step | $([ $code -eq 0 ] && echo passed || echo "FAILED ($code)") | $((SECONDS - start)) |"$'\n'
  printf '\n## %s\n```\n%s\n```\n' "$step" "$(tail -n "${LONGTAKE_LINES:-120}" "$scratch/$step.log")" >>"$report"
done
printf '\n| step | result | s |\n|---|---|---|\n%s' "$table" >>"$report"
cat "$report"
exit $worst
