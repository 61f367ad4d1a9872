"""A merge as a folder: made without a pipeline, its card, mergekit's recipe."""
