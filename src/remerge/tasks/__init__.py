"""Tasks: their data, prompts and answers."""
