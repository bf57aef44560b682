"""The analysis of a study: front, noise floor, estimates, recommendation. numpy only; no torch, no
Optuna.
"""
