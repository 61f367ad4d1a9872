"""What is measured of a model: scores, divergences, the experts' references, curvature."""
