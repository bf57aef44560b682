"""Training and scoring of one network: rungs, averaged weights, checkpoints; the tasks."""
