"""The answer of a study: its facts, what follows from them, and how it is said."""
