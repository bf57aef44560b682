"""Evaluates one candidate: attach, count, measure, train. Does not use Optuna."""
