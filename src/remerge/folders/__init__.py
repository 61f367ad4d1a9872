"""A merge as a folder: made without the pipeline, its card, mergekit's recipe."""
