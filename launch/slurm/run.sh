#!/usr/bin/env bash
# What the batch scripts beside it end in: one run of longtake on all ranks of a Slurm job, started anew until it is
# finished. Started again it goes on from the last commit, so the job is put back into the queue when the run
#   - stopped at a commit (exit code 75) before the time limit or after SIGUSR1 to the batch shell, or
#   - died with what was not its fault: a lost node, a killed rank, a rank that was not heard of (86).
# It is not put back after scancel, after other errors (their exit code is the job's), nor when it died
# without a new commit and was put back twice before.
#
#   run.sh RUN FLAGS...   FLAGS: as for `longtake generate`; RUN: run folder, on a file system that all nodes share
# Variables: LONGTAKE, the binary; LAUNCHER, srun or mpirun; LAUNCHER_FLAGS, more flags for it; WORKERS, how many of the
# job's tasks are attention workers, in a step of their own whose end does not touch the run; WORKER_FLAGS, more flags
# for its srun.
set -uo pipefail

run=$1
shift
longtake=${LONGTAKE:-build/release/longtake}
launcher=${LAUNCHER:-srun}
workers=${WORKERS:-0}
tasks=${SLURM_NTASKS:-1}
read -ra launcher_flags <<<"${LAUNCHER_FLAGS:-}"
read -ra worker_flags <<<"${WORKER_FLAGS:-}"
restarts_without_commit=2

say() {
  echo "run.sh: $(date '+%F %T') $*"
}

# For a step of so many tasks, at most the nodes of the job.
nodes_of() { # TASKS
  echo "1-$(($1 < ${SLURM_NNODES:-1} ? $1 : ${SLURM_NNODES:-1}))"
}

if ! [[ $workers =~ ^(0|[1-9][0-9]{0,8})$ ]] || [ "$workers" -ge "$tasks" ]; then
  say "WORKERS: expected 0 to $((tasks - 1)), so that a task of $tasks is left for a rank, found $workers"
  exit 2
fi
ranks=$((tasks - workers))

case $launcher in
  srun)
    # A rank's exit code is to be seen: the others end by themselves, or PMIx ends them.
    start=(srun --mpi=pmix --kill-on-bad-exit=0)
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || start+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")
    # Neither step takes what the other needs: cores of its own, memory of the job.
    [ "$workers" -eq 0 ] || start+=(--exact --mem=0 "--ntasks=$ranks" "--nodes=$(nodes_of "$ranks")")
    share=--exact
    ;;
  mpirun)
    # At SIGTERM mpirun and the daemons that it starts on other nodes (Open MPI 4) kill the ranks within a second,
    # too early for a commit: they are not to see it. Slurm tells the ranks itself.
    start=(mpirun --bind-to none -n "$ranks")
    if env --block-signal=TERM true 2>/dev/null; then
      start=(env --block-signal=TERM "${start[@]}" --mca orte_launch_agent "env --block-signal=TERM orted")
    fi
    [ "$(id -u)" -ne 0 ] || start+=(--allow-run-as-root)
    share=--overlap # the daemons of mpirun hold all cores
    ;;
  *)
    say "LAUNCHER: expected srun or mpirun, found $launcher"
    exit 2
    ;;
esac
start+=(${launcher_flags[@]+"${launcher_flags[@]}"})
[ "$workers" -eq 0 ] || set -- "$@" --accept-workers on
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export LONGTAKE_THREADS=${LONGTAKE_THREADS:-$SLURM_CPUS_PER_TASK}

# The number of the last task of an array is also that of the whole array.
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

# Slurm sets it since 23.02; longtake stops at a commit before it.
if [ -z "${SLURM_JOB_END_TIME:-}" ]; then
  end=$(squeue -h -j "$job" -o %e 2>/dev/null)
  if end=$(date -d "$end" +%s 2>/dev/null); then export SLURM_JOB_END_TIME=$end; fi
fi

commits() {
  if [ -f "$run/COMMIT" ]; then wc -l <"$run/COMMIT"; else echo 0; fi
}

finished() {
  [ -f "$run/RUN.json" ] && [[ $("$longtake" info "$run" 2>/dev/null) == *", finished"* ]]
}

# Puts this job back into the queue. Waits for a controller that is away.
requeue() {
  for _ in $(seq 60); do
    scontrol requeue "$job" && return
    if [[ $(scontrol ping 2>/dev/null) == *" UP"* ]]; then
      say "job $job cannot be requeued; submit it again to go on"
      return
    fi
    sleep 10
  done
  say "no controller to requeue job $job; submit it again to go on"
}

# The run died while its last frames were decoded: only the video may be missing.
if finished; then
  say "$run is finished"
  if [ ! -e "$run/report.json" ] && ! grep -q 'latents_only: true' "$run/RUN.json"; then
    exec "$longtake" decode "$run"
  fi
  exit 0
fi

# Workers wait for the address file; the run tells them when it is over. What becomes of them does not touch it.
start_workers() {
  local flags=(--job-name=workers "--ntasks=$workers" "--nodes=$(nodes_of "$workers")" "$share" --mem=0 --mpi=none --kill-on-bad-exit=0)
  [ -z "${SLURM_CPUS_PER_TASK:-}" ] || flags+=("--cpus-per-task=$SLURM_CPUS_PER_TASK")
  srun "${flags[@]}" ${worker_flags[@]+"${worker_flags[@]}"} \
    "$longtake" worker --connect "$run/workers.addr" --wait 600 &
  worker_step=$!
}

# They end by themselves, but those of a run that never began.
end_workers() {
  local code
  [ -n "$worker_step" ] || return 0
  for _ in $(seq 50); do
    kill -0 "$worker_step" 2>/dev/null || break
    sleep 0.1
  done
  kill -TERM "$worker_step" 2>/dev/null
  wait "$worker_step"
  code=$?
  say "the workers' step: exit code $code"
}

usr1=0 term=0 interrupted=0 step="" worker_step=""
# shellcheck disable=SC2317  # called by the trap
on_signal() {
  interrupted=1
  say "SIG$1"
  case $1 in
    USR1) usr1=1 ;;
    TERM) term=1 ;;
  esac
  # srun and mpirun pass SIGUSR1 on to every rank, and longtake takes one for a request to stop.
  [ -z "$step" ] || kill -USR1 "$step" 2>/dev/null
}
trap 'on_signal USR1' USR1
trap 'on_signal TERM' TERM

before=$(commits)
say "job $job, restart ${SLURM_RESTART_COUNT:-0}: ${start[*]} $longtake generate $* -o $run"
"${start[@]}" "$longtake" generate "$@" -o "$run" &
step=$!
[ "$workers" -eq 0 ] || start_workers
[ $((usr1 + term)) -eq 0 ] || kill -USR1 "$step"
while :; do # a signal ends `wait` before the step has ended
  interrupted=0
  wait "$step"
  code=$?
  [ $interrupted -eq 1 ] || break
done
end_workers
say "exit code $code, $(($(commits) - before)) new commits"

case $code in
  0 | 2 | 65 | 66 | 73 | 74) exit "$code" ;;
esac
# scancel, or a time limit that came without a warning.
[ $term -eq 0 ] || [ $usr1 -eq 1 ] || exit "$code"
if [ "$code" -eq 75 ] || [ "$(commits)" -gt "$before" ] ||
  [ "${SLURM_RESTART_COUNT:-0}" -lt $restarts_without_commit ]; then
  requeue
fi
exit "$code"
