"""Studies: creation from a recipe, samplers, pruning, workers. The package that uses Optuna."""
