#!/bin/sh
# What became of job $1: success, failed or running. Slurm knows it for minutes after a job's end.
case $(squeue --noheader --states all --format %T --job "$1" 2>&1) in
    COMPLETED) echo success ;;
    BOOT_FAIL | CANCELLED | DEADLINE | FAILED | NODE_FAIL | OUT_OF_MEMORY | PREEMPTED | TIMEOUT) echo failed ;;
    *"Invalid job id"*) echo failed ;;
    *) echo running ;; # also while the controller does not answer
esac
