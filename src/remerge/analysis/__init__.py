"""Statistics of scores: of numbers only, without models."""
