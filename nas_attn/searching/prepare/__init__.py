"""Before the first run: what a search will do, what it costs, and what must be there."""
