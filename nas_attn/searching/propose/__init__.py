"""Which placement to try next."""
