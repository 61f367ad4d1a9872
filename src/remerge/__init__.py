"""remerge: the reproducible experiment pipeline of the model-merging papers."""
