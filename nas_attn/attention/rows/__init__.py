"""The rows of the catalogue, by family. No torch."""
