"""Workers in processes: how they are started, here or elsewhere, what they do, how they end."""
