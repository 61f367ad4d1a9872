"""Slides: Model merging (Jordão), with the figures and the table that they show of other papers.

The other slides are drawings and formulas; where a figure has no number on a slide, none stands beside ours.
"""
