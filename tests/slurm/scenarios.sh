#!/usr/bin/env bash
# The batch scripts of launch/slurm against a real Slurm (rig.sh). Each scenario checks job state and exit code, and that
# the finished run has the latents of an undisturbed one.
#   scenarios.sh quick   those that take seconds (in ./launch/test.sh)
#   scenarios.sh all     or names: scenarios.sh node_death array
# LONGTAKE_BINARY: the binary, by default build/release/longtake. A scenario that cannot run fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
quick=(srun_start mpirun_start usr1_requeue scancel array full_disk two_writers)
slow=(time_limit node_death slurmd_restart controller_death)
rig=tests/slurm/rig.sh
export LONGTAKE=${LONGTAKE_BINARY:-$PWD/build/release/longtake}

fail() {
  echo "    $*"
  return 1
}

# --- jobs

one=(--ntasks-per-node=2 --cpus-per-task=1 launch/slurm/one-node.sbatch)
two=(--ntasks-per-node=1 --cpus-per-task=1 launch/slurm/several-nodes.sbatch)

submit() {  # RUN srun|mpirun flags... -> job id. Settings before it: NAME=value submit ...
  local run=$1 launcher=$2
  shift 2
  # Nodes that are one machine meet in shared memory; the task prolog of the rig sees to it for srun only.
  [ "$launcher" = srun ] || export OMPI_MCA_btl=self,tcp
  RUN=$run LAUNCHER=$launcher CONFIG=${CONFIG:-$folder/run.yaml} OMPI_MCA_mpi_yield_when_idle=1 \
    sbatch --parsable --output="$folder/logs/%A-%a.log" "$@"
}

field() {  # JOB NAME
  scontrol -o show job "$1" | tr ' ' '\n' | sed -n "s/^$2=//p" | head -n 1
}

logs_of() {  # JOB
  cat "$folder/logs/${1%%_*}"-*.log
}

await() {  # SECONDS WHAT COMMAND...
  local seconds=$1 what=$2
  shift 2
  for _ in $(seq $((seconds * 10))); do
    "$@" 2>/dev/null && return
    sleep 0.1
  done
  fail "not within $seconds s: $what"
}

in_progress() {  # RUN
  [ -e "$1/out/b00000001.h5" ]
}

has_ended() {  # JOB
  case $(field "$1" JobState) in
    "" | PENDING | RUNNING | COMPLETING | CONFIGURING | REQUEUED | SUSPENDED) return 1 ;;
  esac
}

expect_end() {  # JOB STATE CODE [RESTARTS]
  await 150 "the end of job $1" has_ended "$1" || { logs_of "$1"; return 1; }
  local found
  found="$(field "$1" JobState) $(field "$1" ExitCode) restarts $(field "$1" Restarts)"
  [ "$found" = "$2 $3:0 restarts ${4:-0}" ] && return
  logs_of "$1" | tail -n 40
  fail "job $1: expected $2 $3:0 restarts ${4:-0}, found $found"
}

expect_text() {  # JOB TEXT
  logs_of "$1" | grep -q "$2" && return
  logs_of "$1" | tail -n 40
  fail "job $1: nothing like '$2' in its log"
}

hash_of() {  # RUN
  sed -n 's/.*"latents_sha256": "\([0-9a-f]*\)".*/\1/p' "$1/report.json"
}

expect_hash() {  # RUN [REFERENCE]
  local expected found
  expected=$(hash_of "${2:-$folder/reference}")
  found=$(hash_of "$1")
  [ ${#found} -eq 64 ] && [ "$found" = "$expected" ] || fail "$1: expected $expected, found $found"
}

expect_committed() {  # RUN: some blocks, not all
  local blocks
  blocks=$("$LONGTAKE" info "$1" | sed -n 's/^blocks *\([0-9]*\) committed.*/\1/p')
  [ "$blocks" -ge 1 ] && [ "$blocks" -lt 13 ] || fail "$1: expected 1 to 12 committed blocks, found $blocks"
}

# A binary that starts its run SECONDS late, the first time.
late() {  # SECONDS
  local script=$folder/late-$1
  cat >"$script" <<END
#!/bin/sh
if [ "\$1" = generate ] && [ "\${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then sleep $1; fi
exec $LONGTAKE "\$@"
END
  chmod +x "$script"
  echo "$script"
}

# --- scenarios

srun_start() {
  local run=$folder/srun a b
  a=$(submit "$run-1" srun "${one[@]}")
  b=$(submit "$run-2" srun "${two[@]}")
  expect_end "$a" COMPLETED 0 && expect_end "$b" COMPLETED 0 && expect_hash "$run-1" && expect_hash "$run-2"
}

mpirun_start() {
  local run=$folder/mpirun a b
  a=$(submit "$run-1" mpirun "${one[@]}")
  b=$(submit "$run-2" mpirun "${two[@]}")
  expect_end "$a" COMPLETED 0 && expect_end "$b" COMPLETED 0 && expect_hash "$run-1" && expect_hash "$run-2"
}

usr1_requeue() {
  local launcher run job jobs=()
  for launcher in srun mpirun; do
    run=$folder/usr1-$launcher
    job=$(submit "$run" $launcher "${two[@]}")
    jobs+=("$job")
    await 60 "$run in progress" in_progress "$run" || return 1
    scancel --batch --signal=USR1 "$job"
    [ $launcher = mpirun ] || scancel --full --signal=USR1 "$job" # one too many changes nothing
    await 30 "a new start of $job" test "$(field "$job" Restarts)" || return 1
  done
  expect_end "${jobs[0]}" COMPLETED 0 1 && expect_end "${jobs[1]}" COMPLETED 0 1 || return 1
  for job in "${jobs[@]}"; do expect_text "$job" "exit code 75" || return 1; done
  expect_hash "$folder/usr1-srun" && expect_hash "$folder/usr1-mpirun"
}

# Stops at a commit and is not put back; submitted again, the run goes on. Where mpirun knows nothing of the rig's
# nodes, it starts the ranks itself, as it does in a real job on one node.
scancel_run() {
  local name=$1 launcher=$2 run=$folder/scancel-$1 job
  shift 2
  job=$(submit "$run" "$launcher" "$@")
  await 60 "$run in progress" in_progress "$run" || return 1
  scancel "$job"
  expect_end "$job" CANCELLED 75 && expect_committed "$run" && expect_text "$job" "^stopped (SIG" || return 1
  job=$(submit "$run" "$launcher" "$@")
  expect_end "$job" COMPLETED 0 && expect_text "$job" "going on with" && expect_hash "$run"
}

scancel_() {
  scancel_run srun srun "${one[@]}" && scancel_run nodes mpirun "${two[@]}" &&
    OMPI_MCA_ras=^slurm OMPI_MCA_plm=isolated OMPI_MCA_rmaps_base_oversubscribe=1 \
      scancel_run node mpirun "${one[@]}"
}

# Only the task that stopped is put back: it is the last one, whose own id is that of the whole array.
array() {
  local run=$folder/array job task prompt
  printf '%s\n' "a red circle moving right on a black background" "a green star rising on black" \
    "a blue square moving left on a white background" >"$folder/prompts"
  job=$(PROMPTS=$folder/prompts submit "$run" srun --array=1-4 --ntasks-per-node=1 --cpus-per-task=1 \
    launch/slurm/array.sbatch)
  await 60 "$run/3 in progress" in_progress "$run/3" || return 1
  scancel --batch --signal=USR1 "${job}_3"
  expect_end "${job}_1" COMPLETED 0 && expect_end "${job}_2" COMPLETED 0 && expect_end "${job}_3" COMPLETED 0 1 &&
    expect_end "${job}_4" FAILED 66 && expect_text "$job" "has no line 4" || return 1
  task=0
  while read -r prompt; do
    task=$((task + 1))
    "$LONGTAKE" generate "$folder/run.yaml" --prompt "$prompt" -q --threads 2 -o "$run/$task-reference"
    expect_hash "$run/$task" "$run/$task-reference" || return 1
  done <"$folder/prompts"
}

full_disk() {
  local disk=$folder/disk job
  mkdir -p "$disk"
  mount -t tmpfs -o size=8m tmpfs "$disk" || fail "cannot mount a small disk: this needs root" || return 1
  head -c 7900k /dev/zero >"$disk/filler"
  job=$(submit "$disk/run" srun "${two[@]}")
  expect_end "$job" FAILED 74 && expect_committed "$disk/run" && expect_text "$job" "disk full\|No space left" ||
    return 1
  rm "$disk/filler"
  job=$(submit "$disk/run" srun "${two[@]}")
  expect_end "$job" COMPLETED 0 && expect_text "$job" "going on with" && expect_hash "$disk/run"
}

two_writers() {
  local run=$folder/writers first second
  first=$(submit "$run" srun "${two[@]}")
  await 60 "$run in progress" in_progress "$run" || return 1
  second=$(submit "$run" srun "${one[@]}")
  expect_end "$second" FAILED 73 && expect_text "$second" "is being written by another process" || return 1
  expect_end "$first" COMPLETED 0 && expect_hash "$run"
}

# The limit is a minute, the least that Slurm knows; all runs begin after 50 s. One stops because it knows the end of
# the job, one by the signal before it, two by the SIGTERM at it. 2147483647: an end that it does not know.
time_limit() {
  local run=$folder/limit LONGTAKE job known warned hard=()
  LONGTAKE=$(late 50)
  known=$(submit "$run-known" srun --time=1 --signal=B:CONT@1 "${two[@]}")
  warned=$(LONGTAKE=$(late 20) SLURM_JOB_END_TIME=2147483647 submit "$run-warned" srun --time=1 --signal=B:USR1@5 "${two[@]}")
  for launcher in srun mpirun; do
    hard+=("$(SLURM_JOB_END_TIME=2147483647 submit "$run-$launcher" $launcher --time=1 --signal=B:CONT@1 "${one[@]}")")
  done
  expect_end "$known" COMPLETED 0 1 && expect_text "$known" "^stopped (end of the batch job)" &&
    expect_hash "$run-known" || return 1
  expect_end "$warned" COMPLETED 0 1 && expect_text "$warned" "SIGUSR1" && expect_hash "$run-warned" || return 1
  for launcher in srun mpirun; do
    job=${hard[0]}
    hard=("${hard[@]:1}")
    expect_end "$job" TIMEOUT 75 && expect_committed "$run-$launcher" || return 1
  done
}

# The nodes' slurmd, slurmstepd and rank die at once; the job goes on with another node.
node_death() {
  local run job launcher
  for launcher in srun mpirun; do
    run=$folder/node-$launcher
    job=$(submit "$run" $launcher "${two[@]}")
    await 60 "$run in progress" in_progress "$run" || return 1
    $rig kill "$folder" n2
    expect_end "$job" COMPLETED 0 1 || return 1
    $rig start "$folder" n2
    expect_text "$job" "going on with" && expect_hash "$run" || return 1
    await 30 "n2 back" grep -qx idle <(sinfo -h -n n2 -o %T) || return 1
  done
}

slurmd_restart() {
  local run=$folder/slurmd job pid
  job=$(submit "$run" srun "${two[@]}")
  await 60 "$run in progress" in_progress "$run" || return 1
  pid=$(<"$folder/pid/slurmd-n1")
  kill "$pid"
  sleep 1
  $rig start "$folder" n1
  expect_end "$job" COMPLETED 0 && expect_hash "$run"
}

# kill -9 of the controller while a run is on, which is told to stop while nobody can put it back; another run ends
# meanwhile. A controller saves what it knows every few seconds: the runs begin late.
controller_death() {
  local run=$folder/controller LONGTAKE stopped ends
  LONGTAKE=$(late 12)
  stopped=$(submit "$run-1" srun "${two[@]}")
  ends=$(submit "$run-2" srun "${two[@]}")
  await 60 "$run-1 in progress" in_progress "$run-1" || return 1
  $rig kill "$folder" slurmctld
  kill -USR1 "$(pgrep -f "run.sh $run-1 ")"
  await 60 "the end of $run-2" test -e "$run-2/report.json" || return 1
  await 30 "$run-1 stopped" grep -q "exit code 75" "$folder/logs/$stopped-"*.log || return 1
  sleep 5
  $rig start "$folder" slurmctld
  expect_end "$ends" COMPLETED 0 && expect_hash "$run-2" || return 1
  expect_end "$stopped" COMPLETED 0 1 && expect_hash "$run-1"
}

# --- all of them

if [ "${1:-}" = --one ]; then # in a process of its own, for the time limit
  export folder=$2 SLURM_CONF=$2/slurm.conf
  case $3 in
    scancel) scancel_ ;;
    *) "$3" ;;
  esac
  exit
fi

names=("$@")
case ${1:-quick} in
  quick) names=("${quick[@]}") ;;
  all) names=("${quick[@]}" "${slow[@]}") ;;
esac

folder=$(mktemp -d)
clean_up() {
  local code=$?
  $rig down "$folder" || code=1
  umount "$folder/disk" 2>/dev/null || true
  rm -rf "$folder"
  [ $code -eq 0 ] || echo "slurm scenarios: FAILED"
  exit $code
}
trap clean_up EXIT
mkdir "$folder/logs"
cat >"$folder/run.yaml" <<END
model: $PWD/configs/demo/model
prompt: a red circle moving right on a black background
video: {width: 64, height: 64, frames: 401, fps: 16}
sampler: {steps: 12, seed: 7}
output: {latents_only: true}
checkpoint: {every: 1}
END
$rig up "$folder"
"$LONGTAKE" generate "$folder/run.yaml" -q --threads 2 -o "$folder/reference"

failed=()
for name in "${names[@]}"; do
  start=$SECONDS
  if timeout --kill-after=5 240 "$0" --one "$folder" "$name"; then
    echo "$name: passed ($((SECONDS - start)) s)"
  else
    echo "$name: FAILED ($((SECONDS - start)) s)"
    failed+=("$name")
    SLURM_CONF=$folder/slurm.conf timeout 20 scancel -f -u "$(id -un)" || true
  fi
done
echo "slurm scenarios: $((${#names[@]} - ${#failed[@]})) of ${#names[@]} passed"
[ ${#failed[@]} -eq 0 ]
