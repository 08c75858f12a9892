#!/bin/bash
# A whole Slurm (munged, slurmctld, slurmd) on this machine, as root: state, key and logs in a folder, nothing outside it.
# usage: up.sh FOLDER PORT PORT
set -e
S=$1
host=$(hostname -s)
mkdir -p "$S"/{state,spool,log,run}
chmod 755 "$S" "$S/run"
[ -f "$S/munge.key" ] || { dd if=/dev/urandom of="$S/munge.key" bs=128 count=1 status=none; chmod 400 "$S/munge.key"; }
cat > "$S/slurm.conf" <<C
ClusterName=ci
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$S/run/munge.socket
SlurmctldPort=$2
SlurmdPort=$3
SlurmctldPidFile=$S/run/slurmctld.pid
SlurmdPidFile=$S/run/slurmd.pid
StateSaveLocation=$S/state
SlurmdSpoolDir=$S/spool
SlurmctldLogFile=$S/log/slurmctld.log
SlurmdLogFile=$S/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$S/log/jobs.txt
SchedulerParameters=sched_interval=1,batch_sched_delay=0,requeue_delay=0
PreemptMode=REQUEUE
PreemptType=preempt/partition_prio
KillWait=30
MinJobAge=600
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$(free -m | awk '/^Mem/{print int($2*0.9)}') State=UNKNOWN
PartitionName=ci Nodes=ALL Default=YES MaxTime=60 State=UP
C
export SLURM_CONF="$S/slurm.conf"
munged --force --key-file="$S/munge.key" --socket="$S/run/munge.socket" --pid-file="$S/run/munged.pid" \
    --log-file="$S/log/munged.log" --seed-file="$S/run/munge.seed"
slurmctld -f "$S/slurm.conf"
slurmd -f "$S/slurm.conf"
for _ in $(seq 120); do
    sinfo -h -o %T 2>/dev/null | grep -q idle && exit 0
    sleep 0.25
done
tail -n 20 "$S"/log/*.log >&2
echo "Slurm does not come up" >&2
exit 1
