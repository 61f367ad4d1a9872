"""DivMerge: a divergence-based model merging method for multi-tasking."""
