#!/usr/bin/env bash
#SBATCH --job-name=efficientnet
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --output=efficientnet-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
# Trains by Slurm. Printed by `main.py launch --print --on=slurm`; no cluster has run it yet.
# In a clone of this project that all hosts see, with its .venv: sbatch FILE. What follows --gpus-per-node is the
# cluster's own name of a GPU: `sinfo --format=%G` lists them.
# Before the time is over, and when it is preempted, the training saves and ends with status 42: queued again.
set -u
srun --kill-on-bad-exit=0 .venv/bin/python main.py --model_dir=gs://photos/runs/b0 --data_dir=gs://photos/imagenet
status=$?
if [ "$status" = 42 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
