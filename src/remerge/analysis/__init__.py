"""Statistics of scores: they know numbers, never models."""
