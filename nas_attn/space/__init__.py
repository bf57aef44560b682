"""Placements, their notation, and search spaces: which choices are allowed at which site."""
