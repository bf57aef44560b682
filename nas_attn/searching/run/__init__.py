"""Workers in processes: how they are started here or elsewhere, end, and what they are doing."""
