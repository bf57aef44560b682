"""Studies in a database: our tables beside Optuna's, and the only SQL in nas_attn. No torch."""
