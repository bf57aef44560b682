"""Recipes: what a study is to do, as TOML; what they can name, and how they are read."""
