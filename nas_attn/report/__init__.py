"""Shows a study: figures, one HTML file, notes and plots for optuna-dashboard. No torch."""

from nas_attn.report.html import write_report

__all__ = ["write_report"]
