"""Slides: Model merging (Jordão), with the figures and the table that they show of other papers."""
