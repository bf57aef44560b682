"""The learning rate: one cycle per rung."""

from __future__ import annotations

WARM_UP = 0.2
"""Share of a rung's steps in which the rate rises."""


def rate_factor(step: int, steps: int) -> float:
    """Factor on the peak learning rate at one step of a rung.

    It rises linearly over the first fifth of the steps between two rungs and falls linearly to nearly zero at the
    rung, where the network is scored; then the next cycle begins (one cycle: Smith and Topin, 1708.07120; repeated:
    Loshchilov and Hutter, 1608.03983). So a score at a rung is that of a finished short training, and it does not
    depend on whether further rungs follow.

    Args:
        step: 0 to steps - 1, counted from the previous rung.
        steps: steps between the previous rung and this one.
    """
    position = (step + 0.5) / steps
    return position / WARM_UP if position < WARM_UP else (1.0 - position) / (1.0 - WARM_UP)
