"""The search: proposes placements, trains them, and decides what comes next."""
