"""A study as it lies in its database: opened, read and kept. This package talks to Optuna."""
