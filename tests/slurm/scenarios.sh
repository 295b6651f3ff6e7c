#!/usr/bin/env bash
# The batch scripts of launch/slurm against a real Slurm (rig.sh). Each scenario checks job state and exit code, and that
# the finished run has the latents of an undisturbed one.
#   scenarios.sh quick   those that take seconds (in ./launch/test.sh)
#   scenarios.sh all     or names: scenarios.sh node_death array
# LONGTAKE_BINARY: the binary, by default build/release/longtake. A scenario that cannot run fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
quick=(srun_start mpirun_start usr1_requeue scancel array full_disk two_writers workers_killed)
slow=(time_limit node_death slurmd_restart controller_death)
rig=tests/slurm/rig.sh
binary=${LONGTAKE_BINARY:-$PWD/build/release/longtake}

fail() {
  echo "    $*"
  return 1
}

# --- jobs

one=(--ntasks-per-node=2 --cpus-per-task=1 launch/slurm/one-node.sbatch)
two=(--ntasks-per-node=1 --cpus-per-task=1 launch/slurm/several-nodes.sbatch)
served=(--nodes=2 --ntasks-per-node=2 --cpus-per-task=1 launch/slurm/with-workers.sbatch)  # 2 ranks, 2 workers

submit() {  # RUN srun|mpirun flags... -> job id. Settings before it: NAME=value submit ...
  local run=$1 launcher=$2 session
  shift 2
  session=$(mktemp -d "$folder/mpi.XXXX")
  # The rig's nodes are one machine, where Open MPI's shared memory of two nodes would meet under one name, and its
  # daemons of all jobs in one folder, which each of them tidies up.
  OMPI_MCA_orte_tmpdir_base=$session LONGTAKE=${LONGTAKE:-$binary} RUN=$run LAUNCHER=$launcher CONFIG=${CONFIG:-$folder/run.yaml} \
    OMPI_MCA_btl=self,tcp OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1 \
    sbatch --parsable --output="$folder/logs/%A-%a.log" "$@"
}

field() {  # JOB NAME
  [[ " $(scontrol -o show job "$1" 2>/dev/null)" =~ \ $2=([^\ ]*) ]] && echo "${BASH_REMATCH[1]}"
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

is_idle() {  # NODE
  [ "$(sinfo -h -n "$1" -o %T)" = idle ]
}

in_progress() {  # RUN
  [ -e "$1/out/b00000001.h5" ]
}

has_ended() {  # JOB
  case $(field "$1" JobState) in # others pass, SIGNALING among them
    BOOT_FAIL | CANCELLED | COMPLETED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT) ;;
    *) return 1 ;;
  esac
}

expect_end() {  # JOB STATE CODE [RESTARTS, `some`: one or more]
  await 150 "the end of job $1" has_ended "$1" || { logs_of "$1"; return 1; }
  local found restarts
  found="$(field "$1" JobState) $(field "$1" ExitCode)"
  restarts=$(field "$1" Restarts)
  if [ "$found" = "$2 $3:0" ]; then
    [ "$restarts" = "${4:-0}" ] && return
    [ "${4:-0}" = some ] && [ "$restarts" -ge 1 ] && return
  fi
  logs_of "$1" | tail -n 40
  grep -h "error" "$folder"/log/*.log | tail -n 10
  fail "job $1: expected $2 $3:0, ${4:-0} restarts, found $found, $restarts"
}

expect_text() {  # JOB TEXT
  grep -q "$2" "$folder/logs/${1%%_*}"-*.log && return
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
  { [ ${#found} -eq 64 ] && [ "$found" = "$expected" ]; } || fail "$1: expected $expected, found $found"
}

expect_committed() {  # RUN: some blocks, not all
  [[ $("$binary" info "$1") =~ [1-9][0-9]*\ committed.*,\ unfinished ]] ||
    fail "$1: expected committed blocks in an unfinished run: $("$binary" info "$1")"
}

# A binary that starts its run SECONDS late, the first time.
late() {  # SECONDS
  local script=$folder/late-$1
  cat >"$script" <<END
#!/bin/sh
if [ "\$1" = generate ] && [ "\${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then sleep $1; fi
exec $binary "\$@"
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
  local run=$folder/usr1 a b job
  a=$(submit "$run-1" srun "${two[@]}")
  await 60 "$run-1 in progress" in_progress "$run-1" || return 1
  scancel --batch --signal=USR1 "$a"
  scancel --full --signal=USR1 "$a" # a request too many changes nothing
  b=$(submit "$run-2" mpirun "${two[@]}") # not before: it would be over by now
  await 60 "$run-2 in progress" in_progress "$run-2" || return 1
  scancel --batch --signal=USR1 "$b"
  expect_end "$a" COMPLETED 0 1 && expect_end "$b" COMPLETED 0 1 || return 1
  for job in "$a" "$b"; do
    expect_text "$job" "exit code 75" && expect_text "$job" "going on with" || return 1
  done
  expect_hash "$run-1" && expect_hash "$run-2"
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
  local run=$folder/array job blue="a blue square moving left on a white background"
  printf '%s\n' "" "a red circle moving right on a black background" "$blue" >"$folder/prompts"
  job=$(PROMPTS=$folder/prompts submit "$run" srun --array=1-3 --ntasks-per-node=1 --cpus-per-task=1 \
    launch/slurm/array.sbatch)
  await 60 "$run/3 in progress" in_progress "$run/3" || return 1
  scancel --batch --signal=USR1 "${job}_3"
  "$binary" generate "$folder/run.yaml" --prompt "$blue" -q --threads 1 -o "$run/blue"
  expect_end "${job}_1" FAILED 66 && expect_text "$job" "has no line 1" && expect_end "${job}_2" COMPLETED 0 &&
    expect_end "${job}_3" COMPLETED 0 1 && expect_hash "$run/2" && expect_hash "$run/3" "$run/blue"
}

full_disk() {
  local disk=$folder/disk job
  mkdir -p "$disk"
  mount -t tmpfs -o size=100m tmpfs "$disk" || fail "cannot mount a small disk: this needs root" || return 1
  head -c 93m /dev/zero >"$disk/filler"
  job=$(submit "$disk/run" srun "${two[@]}")
  expect_end "$job" FAILED 74 && expect_committed "$disk/run" && expect_text "$job" "disk full\|No space left" ||
    return 1
  rm "$disk/filler"
  job=$(submit "$disk/run" srun "${two[@]}")
  expect_end "$job" COMPLETED 0 && expect_text "$job" "going on with" && expect_hash "$disk/run"
}

signal_ranks() {  # SIGNAL RUN: the processes of longtake that write it
  local process
  for process in $(pgrep -x longtake); do
    if tr '\0' '\n' <"/proc/$process/cmdline" | grep -qxF "$2"; then kill "-$1" "$process"; fi
  done
}

two_writers() {
  local run=$folder/writers first second
  first=$(submit "$run" srun "${two[@]}")
  await 60 "$run in progress" in_progress "$run" || return 1
  signal_ranks STOP "$run" # so that it does not end meanwhile
  second=$(submit "$run" srun "${one[@]}")
  expect_end "$second" FAILED 73 && expect_text "$second" "is being written by another process" || return 1
  signal_ranks CONT "$run"
  expect_end "$first" COMPLETED 0 && expect_hash "$run"
}

has_joined() {  # JOB COUNT: workers
  [ "$(grep -c "joined 2 ranks" "$folder/logs/$1-"*.log)" -ge "$2" ]
}

step_of() {  # JOB NAME -> JOB.STEP
  squeue -h --steps -o "%i %j" | awk -v job="$1" -v name="$2" '$2 == name && $1 ~ "^" job "[.]" {print $1}'
}

# The step of the attention workers is cancelled, killed, or killed under mpirun. A worker of another job, which waits for
# the run to begin, works to its end.
workers_killed() {
  local run=$folder/workers jobs=() other i step done_before signal=(--signal=KILL)
  export LONGTAKE_LEAST_WORKER_WORK=0 WORKERS=2 # the demo model's attention is tiny
  other=$(sbatch --parsable --output="$folder/logs/%A-%a.log" --ntasks=1 --wrap \
    "srun --mpi=none $binary worker --connect $run-0/workers.addr --wait 100 --threads 1")
  jobs=("$(submit "$run-0" srun "${served[@]}")" "$(submit "$run-1" mpirun "${served[@]}")")
  await 100 "the other job's worker" has_joined "$other" 1 || return 1
  for i in 0 1; do
    await 60 "the workers of $run-$i" has_joined "${jobs[i]}" 2 &&
      await 60 "$run-$i in progress" in_progress "$run-$i" || return 1
    step=$(step_of "${jobs[i]}" workers)
    scancel ${signal[i]+"${signal[i]}"} "$step" || fail "no step to cancel: '$step'" || return 1
    [ ! -e "$run-$i/report.json" ] || fail "$run-$i was over before its workers were killed" || return 1
  done
  for i in 0 1; do
    expect_end "${jobs[i]}" COMPLETED 0 && expect_text "${jobs[i]}" "the workers' step: exit code [1-9]" &&
      expect_hash "$run-$i" || return 1
    [ "$(grep -c "^  worker .*, dead (" "$run-$i/report.txt")" -eq 4 ] || # 2 ranks, 2 workers
      { cat "$run-$i/report.txt"; fail "$run-$i: expected 2 dead workers at both ranks"; } || return 1
  done
  done_before=$(sed -n 's/^  worker .*: \([0-9]*\) tasks,.*, dead (.*/\1/p' "$run"-[01]/report.txt | awk '{n += $1} END {print n + 0}')
  [ "$done_before" -gt 0 ] || fail "the workers that were killed had got nothing to do" || return 1
  expect_end "$other" COMPLETED 0 && expect_text "$other" "[1-9][0-9]* tasks"
}

# The limit is a minute, the least that Slurm knows. One run begins shortly before and stops because it knows the end
# of the job; a long one is stopped by the signal, which comes up to half a minute early, again and again; two long
# ones, that know nothing, by the SIGTERM at the limit: these are not put back, and go on when they are submitted
# again. 2147483647: an end that is far away.
time_limit() {
  local run=$folder/limit SLURM_JOB_END_TIME=2147483647 known warned hard=() launcher long=$folder/long.yaml
  export SLURM_JOB_END_TIME
  sed 's/frames: 401/frames: 3001/' "$folder/run.yaml" >"$long"
  known=$(unset SLURM_JOB_END_TIME
    LONGTAKE=$(late 54) submit "$run-known" srun --time=1 --signal=B:CONT@1 "${two[@]}")
  warned=$(CONFIG=$long LONGTAKE=$(late 3) submit "$run-warned" srun --time=1 --signal=B:USR1@25 "${two[@]}")
  for launcher in srun mpirun; do
    hard+=("$(CONFIG=$long LONGTAKE=$(late 50) submit "$run-$launcher" $launcher --time=1 --signal=B:CONT@1 "${one[@]}")")
  done
  "$binary" generate "$long" -q --threads 2 -o "$folder/long-reference"
  expect_end "$known" COMPLETED 0 1 && expect_text "$known" "^stopped (end of the batch job)" &&
    expect_hash "$run-known" || return 1
  expect_end "$warned" COMPLETED 0 some && expect_text "$warned" "run.sh: .* SIGUSR1" &&
    expect_hash "$run-warned" "$folder/long-reference" || return 1
  expect_end "${hard[0]}" TIMEOUT 75 && expect_end "${hard[1]}" TIMEOUT 75 || return 1
  for launcher in srun mpirun; do
    expect_committed "$run-$launcher" || return 1
    known=$(CONFIG=$long submit "$run-$launcher" $launcher "${one[@]}")
    expect_end "$known" COMPLETED 0 && expect_text "$known" "going on with" &&
      expect_hash "$run-$launcher" "$folder/long-reference" || return 1
  done
}

# A node's slurmd, slurmstepds and ranks die at once; the jobs go on with another node.
node_death() {
  local launcher jobs=() code=0
  for launcher in srun mpirun; do
    jobs+=("$(submit "$folder/node-$launcher" $launcher "${two[@]}")")
  done
  for launcher in srun mpirun; do
    await 60 "$folder/node-$launcher in progress" in_progress "$folder/node-$launcher" || return 1
  done
  [ "$(field "${jobs[0]}" NodeList) $(field "${jobs[1]}" NodeList)" = "n[1-2] n[1-2]" ] || fail "not on n2" || return 1
  $rig kill "$folder" n2
  { expect_end "${jobs[0]}" COMPLETED 0 1 && expect_end "${jobs[1]}" COMPLETED 0 1; } || code=1
  $rig start "$folder" n2
  await 30 "n2 back" is_idle n2 || return 1
  for launcher in srun mpirun; do expect_hash "$folder/node-$launcher" || code=1; done
  return $code
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

if [ "${1:-}" = --one ]; then
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
"$binary" generate "$folder/run.yaml" -q --threads 2 -o "$folder/reference"

# In a process of its own, for the time limit. Its messages come at once.
scenario() {  # NAME
  local start=$SECONDS verdict=passed
  timeout --kill-after=5 400 "$0" --one "$folder" "$1" >"$folder/$1.out" 2>&1 || verdict=FAILED
  cat "$folder/$1.out"
  echo "$1: $verdict ($((SECONDS - start)) s)"
  [ $verdict = passed ] || touch "$folder/$1.failed"
}

# Most of their time is waiting: three at a time, but those alone that end a part of Slurm.
for name in "${names[@]}"; do
  case $name in
    node_death | slurmd_restart | controller_death)
      wait
      scenario "$name"
      ;;
    *)
      while [ "$(jobs -rp | wc -l)" -ge 3 ]; do wait -n; done
      scenario "$name" &
      ;;
  esac
done
wait
failed=$(find "$folder" -maxdepth 1 -name '*.failed' | wc -l)
echo "slurm scenarios: $((${#names[@]} - failed)) of ${#names[@]} passed"
[ "$failed" -eq 0 ]
