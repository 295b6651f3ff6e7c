#!/usr/bin/env bash
# A real Slurm on this machine, without systemd and without touching /etc: munged, slurmctld and several slurmd.
#   rig.sh up FOLDER [NODES]   FOLDER: of this rig alone; then: export SLURM_CONF=FOLDER/slurm.conf
#   rig.sh kill FOLDER NAME    kill -9 of slurmctld, or of a node (n1, n2 ...) with its jobs' processes
#   rig.sh start FOLDER NAME   starts it again
#   rig.sh down FOLDER         ends all of it; fails when a process is left
# As root or as a plain user. BASE: first of the ports BASE + 17 ... BASE + 100 + NODES. The packages:
# launch/setup.sh --slurm.
set -euo pipefail

command=$1
folder=$(realpath -m "$2")
argument=${3:-}
base=${BASE:-$((20000 + $$ % 200 * 50))}
host=$(hostname -s)
export SLURM_CONF=$folder/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

# Process 1 may not reap: a zombie has ended.
alive() {  # PID
  local state
  state=$(sed -n 's/^State:\s*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) && [ -n "$state" ] && [ "$state" != Z ]
}

# Processes of this rig: they have its files on their command line, its name in their environment or, as slurmstepd,
# its log open.
of_rig() {
  local entry pid
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    [ "$(cat "$entry/comm" 2>/dev/null)" = rig.sh ] && continue
    if grep -qzF "$folder/" "$entry/cmdline" 2>/dev/null ||
      grep -qzxF "LONGTAKE_SLURM_RIG=$folder" "$entry/environ" 2>/dev/null ||
      { grep -qx slurmstepd "$entry/comm" && [ "$(find "$entry/fd" -lname "$folder/*" | wc -l)" -gt 0 ]; } 2>/dev/null; then
      if alive "$pid"; then echo "$pid"; fi
    fi
  done
}

down() {
  local file pid
  timeout 20 scancel -f -u "$(id -un)" 2>/dev/null || true
  for _ in $(seq 50); do
    [ -n "$(timeout 5 squeue -h 2>/dev/null)" ] || break
    sleep 0.1
  done
  for file in "$folder"/pid/slurmd-* "$folder/pid/slurmctld" "$folder/munge/pid"; do
    [ -s "$file" ] && kill "$(<"$file")" 2>/dev/null
  done
  for _ in $(seq 50); do
    [ -z "$(of_rig)" ] && return
    sleep 0.1
  done
  for pid in $(of_rig); do
    echo "rig.sh: left over: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")" >&2
    kill -KILL "$pid" 2>/dev/null || true
  done
  return 1
}

make_munge() {
  local as=()
  mkdir -p "$folder/munge"
  dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
  chmod 400 "$folder/munge/key"
  chmod 755 "$folder/munge"
  if [ "$(id -u)" -eq 0 ]; then
    chown -R munge:munge "$folder/munge"
    as=(setpriv --reuid=munge --regid=munge --clear-groups)
  fi
  "${as[@]}" munged --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
}

# SlurmdTimeout, KillWait and cred_expire are short: a dead node is noticed, a job requeued, in seconds.
make_configuration() {  # uses: nodes
  cat >"$SLURM_CONF" <<END
ClusterName=rig
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$((base + 17))
SlurmdPort=$((base + 18))
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
TmpFS=$folder/tmp/%n
SlurmctldPidFile=$folder/pid/slurmctld
SlurmdPidFile=$folder/pid/slurmd-%n
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
PriorityType=priority/basic
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=pmix
KillWait=10
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=8
END
  local i
  for i in $(seq "$nodes"); do
    echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((base + 100 + i)) CPUs=4 Boards=1" \
      "SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=1000 State=UNKNOWN"
  done >>"$SLURM_CONF"
  echo "PartitionName=main Nodes=n[1-$nodes] Default=YES MaxTime=INFINITE State=UP" >>"$SLURM_CONF"
  # slurmd 22.05 loads a cgroup plugin in any case; this one does nothing without a mount.
  printf 'CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n' >"$folder/cgroup.conf"
}

start() {  # NAME
  export LONGTAKE_SLURM_RIG=$folder
  if [ "$1" = slurmctld ]; then slurmctld -f "$SLURM_CONF"; else slurmd -N "$1" -f "$SLURM_CONF"; fi
}

# The node's slurmd, the slurmstepds that have its log open, and what they started.
kill_part() {  # NAME
  local entry pids
  pids=$(<"$folder/pid/$([ "$1" = slurmctld ] || echo slurmd-)$1")
  for entry in /proc/[0-9]*; do
    if [ "$1" != slurmctld ] && grep -qx slurmstepd "$entry/comm" 2>/dev/null &&
      [ "$(find "$entry/fd" -lname "$folder/log/slurmd-$1.log" 2>/dev/null | wc -l)" -gt 0 ]; then
      pids="$pids ${entry#/proc/} $(pgrep -P "${entry#/proc/}" | tr '\n' ' ')"
    fi
  done
  # shellcheck disable=SC2086
  kill -KILL $pids
}

up() {
  local program i nodes=${argument:-3}
  for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || {
      echo "rig.sh: $program not found: ./launch/setup.sh --slurm installs it" >&2
      exit 1
    }
  done
  umask 022
  mkdir -p "$folder"/{state,log,pid}
  chmod 755 "$folder"
  for i in $(seq "$nodes"); do
    mkdir -p "$folder/spool/n$i" "$folder/tmp/n$i"
    chmod 1777 "$folder/tmp/n$i"
  done
  make_munge
  make_configuration
  start slurmctld
  for i in $(seq "$nodes"); do start "n$i"; done
  for _ in $(seq 150); do
    [ "$(sinfo -h -N -o %T 2>/dev/null | grep -c '^idle$')" = "$nodes" ] && return
    sleep 0.1
  done
  tail -n 5 "$folder"/log/*.log >&2
  down || true
  return 1
}

case $command in
  up | down) "$command" ;;
  start) start "$argument" ;;
  kill) kill_part "$argument" ;;
  *)
    echo "rig.sh up FOLDER [NODES] | kill FOLDER NAME | start FOLDER NAME | down FOLDER" >&2
    exit 2
    ;;
esac
