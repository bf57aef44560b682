"""Recipes: what a study is to do, as TOML; their sections, what they can name, and their reading."""
