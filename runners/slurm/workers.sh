#!/bin/sh
# Workers of a study as an array of Slurm jobs, each with one worker:
#
#     export NAS_ATTN_STORAGE=postgresql+psycopg://USER:PASSWORD@HOST/DATABASE
#     sbatch --array=0-15 --gres=gpu:1 runners/slurm/workers.sh STUDY
#
# Submit it in the folder that the study began in, in the environment that has nas-attn.
#SBATCH --job-name=nas-attn
#SBATCH --array=0-3
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR2@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=nas-attn-%A_%a.log

job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
# At preemption, Slurm sends SIGTERM to the worker, too.
trap : TERM
# A minute before the time limit, Slurm sends SIGUSR2 to this script alone. The worker writes a
# checkpoint, and the job is queued again, at the latest after 45 s.
trap 'again=1; kill -USR2 $worker; (sleep 45; exec scontrol requeue "$job") &' USR2
nas-attn worker "$@" &
worker=$!
wait $worker; status=$?
# a signal ends a wait early
while kill -0 $worker 2>/dev/null; do wait $worker; status=$?; done
[ -z "$again" ] || exec scontrol requeue "$job"
exit $status
