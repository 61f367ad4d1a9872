"""FusionBench: Comprehensive benchmark of deep model fusion (Tang et al., 2024, arXiv:2406.03280).

The numbers are those of its documentation, for its published experts of Flan-T5-base and CLIP.
"""
