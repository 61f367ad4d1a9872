"""Slides: Model merging (Jordão), with the figures and the table that they show from other papers.

The other slides are drawings and formulas. Where a slide gives no numbers for a figure, none are shown beside
ours.
"""
