"""Other packages whose networks or trainers need code of ours: a folder each."""
