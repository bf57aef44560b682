"""What the numbers of a study say: front, noise floor, estimates, recommendation. numpy only; no torch, no Optuna."""
