"""Where Optuna lives: recipe -> study, samplers, pruning, leases, workers."""
