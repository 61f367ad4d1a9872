"""Measurements of a model: scores, divergences, the experts' references, curvature."""
