"""One candidate -> its evaluation: attach, count, measure, train. Knows no Optuna."""
