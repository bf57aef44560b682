"""All prose: what terminal, report, notebook, notes and cards say of an answer, from its data."""
